#include "limits.hpp"

#include <fmt/format.h>

#include "text.hpp"

namespace {

std::string fault(const char* what, std::string_view text, std::size_t limit) {
    if (!is_utf8(text)) return fmt::format("a {} must be UTF-8", what);
    if (limit != 0 && characters(text) > limit) return fmt::format("a {} may have at most {} characters", what, limit);
    return {};
}

std::string one_line_fault(const char* what, std::string_view text, std::size_t limit) {
    if (trimmed(text).empty()) return fmt::format("a {} must not be empty", what);
    std::string wrong = fault(what, text, limit);
    if (wrong.empty() && has_control(text)) wrong = fmt::format("a {} must not hold control characters", what);
    return wrong;
}

}  // namespace

std::string title_fault(std::string_view title) { return one_line_fault("title", title, title_limit); }
std::string description_fault(std::string_view description) { return fault("description", description, description_limit); }
std::string name_fault(std::string_view name) { return one_line_fault("name", name, 0); }
