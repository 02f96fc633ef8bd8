#include "base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace {

constexpr std::string_view digits = "0123456789";

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }

/// Whether the byte continues a character: 10xxxxxx.
bool continues(char c) noexcept { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Whether a control character begins at this place. C1 is U+0080 to U+009F, in UTF-8 C2 80 to C2 9F.
bool control_at(std::string_view text, std::size_t i) noexcept {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7F) return true;
    return c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

}  // namespace

std::optional<int> parse_whole(std::string_view text) noexcept {
    if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) return {};
    while (text.size() > 1 && text.front() == '0') text.remove_prefix(1);
    if (text.size() > 9) return {};
    int number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

std::optional<double> parse_seconds(std::string_view text) noexcept {
    const bool plain = text.find_first_not_of("0123456789.") == text.npos && text.find_first_of(digits) != text.npos &&
                       std::count(text.begin(), text.end(), '.') <= 1;
    double seconds = 0;
    if (!plain) return {};
    if (std::from_chars(text.data(), text.data() + text.size(), seconds).ec == std::errc::result_out_of_range)
        return text.find_first_of("123456789") < text.find('.') ? HUGE_VAL : 0.0;
    return seconds;
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

bool is_utf8(std::string_view text) {
    // The JSON library checks the UTF-8 that it writes. Most text is plain ASCII and needs no check.
    if (std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) return true;
    try {
        static_cast<void>(nlohmann::json(text).dump());
        return true;
    } catch (const nlohmann::json::type_error&) {
        return false;
    }
}

bool has_control(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size(); ++i)
        if (control_at(text, i)) return true;
    return false;
}

bool is_text(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i)
        if (text[i] != '\t' && control_at(text, i)) return false;
    return is_utf8(text);
}

std::string_view beginning(std::string_view text, std::size_t most) noexcept {
    if (text.size() <= most) return text;
    std::size_t size = most;
    while (size > 0 && most - size < 3 && continues(text[size])) --size;  // a character has four bytes at most
    return text.substr(0, size);
}

std::size_t characters(std::string_view text) noexcept {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::string text_fault(const char* what, std::string_view text, std::optional<std::size_t> limit) {
    if (!is_utf8(text)) return fmt::format("a {} must be UTF-8", what);
    if (limit && characters(text) > *limit) return fmt::format("a {} may have at most {} characters", what, *limit);
    return {};
}

std::string line_fault(const char* what, std::string_view text, std::optional<std::size_t> limit) {
    if (trimmed(text).empty()) return fmt::format("a {} must not be empty", what);
    std::string wrong = text_fault(what, text, limit);
    if (wrong.empty() && has_control(text)) wrong = fmt::format("a {} must not hold control characters", what);
    return wrong;
}

std::string printable(std::string_view text) {
    const bool utf8 = is_utf8(text);
    std::string shown;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (c == '\n') {
            shown += "\\n";
        } else if (control_at(text, i) || (!utf8 && c >= 0x80)) {
            shown += fmt::format("\\x{:02x}", c);
            // C1 is two bytes: the second one alone would not be UTF-8.
            if (utf8 && c == 0xC2) shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
        } else {
            shown += text[i];
        }
    }
    return shown;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}
