/// Small questions about text that both protocols and the command line ask.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

/// Plain digits as a number, or nothing (also past nine digits: no number here has more). No sign, blank or point.
std::optional<int> parse_whole(std::string_view text) noexcept;

/// Plain digits with at most one point (1, 1.5, .5) as seconds, or nothing.
std::optional<double> parse_seconds(std::string_view text) noexcept;

/// Without the blanks (space and tab) at both ends.
std::string_view trimmed(std::string_view text) noexcept;

/// Whether the bytes are valid UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

/// Whether UTF-8 text holds a control character: C0 with NUL, tab and line breaks, DEL, or C1 (which terminals obey, too).
bool has_control(std::string_view text) noexcept;

/// How many characters (code points) UTF-8 text has.
std::size_t characters(std::string_view text) noexcept;

/// The same text fit for a terminal, a log or one line of a reply: a line break shows as \n, any other control
/// character, and any byte that is not UTF-8, as \xNN.
std::string printable(std::string_view text);

/// Whether two texts are the same but for the case of ASCII letters, as HTTP compares names.
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
