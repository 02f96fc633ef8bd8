#include "tasks/query.hpp"

#include <uuid/uuid.h>

namespace {

enum : std::size_t { listing, finding, naming, adding, changing, removing };  // as in `statements`

std::string new_id() {
    uuid_t uuid;
    char text[UUID_STR_LEN];
    uuid_generate_random(uuid);
    uuid_unparse_lower(uuid, text);
    return text;
}

std::string lower_case(std::string_view id) {
    std::string lower(id);
    for (char& c : lower)
        if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

template <class T>
Value value(const std::optional<T>& given) {
    return given ? Value(*given) : Value();
}

}  // namespace

Query all_tasks() { return {listing, {}}; }
Query task(std::string_view id) { return {finding, {lower_case(id)}}; }
Query tasks_named(std::string_view beginning) {
    const std::string first = lower_case(beginning);
    return {naming, {first, first + "g"}};  // an id has nothing above f
}
Query new_task(const Task& task) { return {adding, {new_id(), task.title, task.description, task.done}}; }
Query changed_task(std::string_view id, const Change& change) {
    return {changing, {value(change.title), value(change.description), value(change.done), lower_case(id)}};
}
Query removed_task(std::string_view id) { return {removing, {lower_case(id)}}; }
