/// The line protocol: what people type into nc.
#pragma once

#include <string_view>

#include "service.hpp"
#include "work.hpp"

/// The longest line, its ending not counted.
inline constexpr std::size_t line_limit = 8192;

/// What one line asks for (without its ending, not empty). A line that asks for nothing known is an error reply, in
/// words that say what would have been right. Thread-safe; keeps no reference to the line.
Work line_work(std::string_view line, const Service& service);

/// An error in the line protocol's shape.
Reply line_error(std::string_view text);
