/// The line protocol: what people type into nc.
#pragma once

#include <string_view>

#include "base/service.hpp"
#include "protocol/work.hpp"

/// Bytes of the longest line, without its ending.
inline constexpr std::size_t line_limit = 8192;

/// The work that a line asks for. The line is not empty, and its ending is removed. A wrong line gets an error reply that
/// says what would have been right. Thread-safe. Keeps no reference to the line.
Work line_work(std::string_view line, const Service& service);

/// Why a first line ends the conversation; null if it does not. A line that is not text, or that belongs to another
/// protocol, ends it, because an attacker may have chosen the bytes after it, and they must not be carried out. Of a line
/// that is too long, only the first line_limit bytes count.
const char* first_line_fault(std::string_view line);
/// The same for a later line. An HTTP request line ends the conversation, because a body would be taken for lines.
const char* later_line_fault(std::string_view line);

/// Whether a first line begins a TLS handshake, which need not contain a line ending at all.
bool begins_tls(std::string_view line) noexcept;

/// An error as a reply of the line protocol.
Reply line_error(std::string_view text);
/// An error that ends the conversation.
Reply last_line_error(std::string_view text);
