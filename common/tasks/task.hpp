/// A task, and what it may contain.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

inline constexpr std::size_t title_limit = 200;         ///< characters
inline constexpr std::size_t description_limit = 1000;  ///< characters

struct Task {
    std::string id;  ///< a UUID (RFC 9562) in lower case
    std::string title;
    std::string description;
    bool done = false;
};

/// A change to a task. A member left out keeps its value.
struct Change {
    std::optional<std::string> title;
    std::optional<std::string> description;
    std::optional<bool> done;
};

/// What is wrong with a title, in words, or an empty text if nothing is. A title is one line of UTF-8.
std::string title_fault(std::string_view title);
/// The same for a description, which may have line breaks and other control characters, but no NUL.
std::string description_fault(std::string_view description);
