#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace {

constexpr std::string_view digits = "0123456789";

/// The byte that begins no character: 10xxxxxx.
bool continues(char c) noexcept { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Whether a control character begins at this place. C1 is U+0080 to U+009F: C2 80 to C2 9F.
bool control_at(std::string_view text, std::size_t i) noexcept {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7F) return true;
    return c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

}  // namespace

std::optional<int> parse_whole(std::string_view text) noexcept {
    if (text.empty() || text.find_first_not_of(digits) != text.npos) return {};
    text.remove_prefix(std::min(text.find_first_not_of('0'), text.size() - 1));
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
    constexpr auto blanks = " \t";
    const auto first = text.find_first_not_of(blanks);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool is_utf8(std::string_view text) {
    // The JSON library checks what it writes; plain ASCII, which most text is, need not trouble it.
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

std::size_t characters(std::string_view text) noexcept {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
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
