#include "tasks/task.hpp"

#include "base/text.hpp"

std::string title_fault(std::string_view title) { return line_fault("title", title, title_limit); }

std::string description_fault(std::string_view description) {
    if (description.find('\0') != description.npos) return "a description must not hold a NUL";  // PostgreSQL stores none
    return text_fault("description", description, description_limit);
}
