/// The queries to the database as calls that throw their errors.
#pragma once

#include <optional>
#include <utility>

#include "tasks/tasks.hpp"

struct TaskList : Tasks {
    using Tasks::Tasks;

    Rows rows(const Query& query) {
        Answer answer = ask(query);
        if (const auto* const error = std::get_if<TasksError>(&answer)) throw *error;
        return std::get<Rows>(std::move(answer));
    }
    std::optional<Task> one(const Query& query) {
        Rows found = rows(query);
        return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
    }

    Rows list() { return rows(all_tasks()); }
    Rows named(std::string_view beginning) { return rows(tasks_named(beginning)); }
    std::optional<Task> find(std::string_view id) { return one(task(id)); }
    Task add(const Task& task) {
        auto added = one(new_task(task));
        if (!added) throw TasksError(TasksError::Kind::full, list_full);
        return std::move(*added);
    }
    std::optional<Task> change(std::string_view id, const Change& change) { return one(changed_task(id, change)); }
    std::optional<Task> remove(std::string_view id) { return one(removed_task(id)); }
};
