/// Text functions for both protocols and the command line.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

/// Appends texts, one after another. Takes half the instructions of fmt, which fills the string with zeros first.
template <class... Texts>
void append(std::string& to, const Texts&... texts) {
    ((to += std::string_view(texts)), ...);
}

/// Plain digits as a number, or nothing. No sign, blank or point. At most nine digits, leading zeros not counted.
std::optional<int> parse_whole(std::string_view text) noexcept;

/// Plain digits with at most one point (1, 1.5, .5) as seconds, or nothing. Infinity if it is too large.
std::optional<double> parse_seconds(std::string_view text) noexcept;

/// The text without the blanks (space and tab) at both ends.
std::string_view trimmed(std::string_view text) noexcept;

/// Whether the bytes are valid UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

/// Whether UTF-8 text holds a control character: C0 (also NUL, tab, line breaks), DEL, or C1 (which terminals obey, too).
bool has_control(std::string_view text) noexcept;

/// Whether it is text that a person could have typed in one line: UTF-8, and no control character but tab.
bool is_text(std::string_view text);

/// A text's beginning, at most `most` bytes, which does not end in half a character.
std::string_view beginning(std::string_view text, std::size_t most) noexcept;

/// How many characters (code points) UTF-8 text has.
std::size_t characters(std::string_view text) noexcept;

/// Why a client's text cannot be a `what` (such as "title"), in words; empty if it can. It must be UTF-8, and have at most
/// `limit` characters if there is a limit.
std::string text_fault(const char* what, std::string_view text, std::optional<std::size_t> limit = {});
/// The same for one line: it must not be blank either, nor hold any control character, not even a tab.
std::string line_fault(const char* what, std::string_view text, std::optional<std::size_t> limit = {});

/// The text made safe for a terminal, a log or one line of a reply. A line break becomes \n, any other control character
/// \xNN. If the text is not UTF-8, each of its bytes that is not ASCII becomes \xNN, too.
std::string printable(std::string_view text);

/// Whether two texts are equal if the case of ASCII letters is ignored, as HTTP compares names.
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
