/// A question to the database is data: one of a fixed list of statements, and its values.
///
/// Each stage decides who asks it, and who waits for the answer (see work.hpp).
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tasks/task.hpp"

/// Each is complete in itself, so no transaction spans two of them. SQLite and PostgreSQL take the same text. $1, $2, …
/// must first appear in this order, because SQLite takes them for names, and numbers them as they appear.
inline constexpr std::array statements = {
    "SELECT id, title, description, done FROM tasks ORDER BY position",
    "SELECT id, title, description, done FROM tasks WHERE id = $1",
    "SELECT id, title, description, done FROM tasks WHERE id >= $1 AND id < $2 LIMIT 2",
    // May be executed twice: a task that is there already is the answer, even if the list is full.
    "INSERT INTO tasks (id, title, description, done) SELECT $1, $2, $3, $4"
    " WHERE (SELECT count(*) FROM tasks) < 1000 OR EXISTS (SELECT 1 FROM tasks WHERE id = $1)"
    " ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING id, title, description, done",
    "UPDATE tasks SET title = coalesce($1, title), description = coalesce($2, description),"
    " done = coalesce($3, done) WHERE id = $4 RETURNING id, title, description, done",
    "DELETE FROM tasks WHERE id = $1 RETURNING id, title, description, done",
};

/// The limit keeps the list short enough that a server can hold it for a client that does not read it.
inline constexpr auto list_full = "there are 1000 tasks already, delete one first";

/// A value of a statement: nothing (NULL), a truth value or a text.
using Value = std::variant<std::monostate, bool, std::string>;

struct Query {
    std::size_t statement;      ///< index in `statements`
    std::vector<Value> values;  ///< of $1, $2, …
    /// Whether it may wait for the disk or for another writer. If not, it is a SELECT, which takes microseconds.
    [[nodiscard]] bool writes() const { return *statements[statement] != 'S'; }
};

/// All tasks in the order of creation.
Query all_tasks();
/// The task with this id; no row if there is none. Ids may be in upper case, here and below.
Query task(std::string_view id);
/// The tasks whose ids have this beginning, at most two: enough to tell none, one and several apart.
Query tasks_named(std::string_view beginning);
/// The new task, with an id of its own; no row if the list is full.
Query new_task(const Task& task);
/// The task as it is now; no row if there is none.
Query changed_task(std::string_view id, const Change& change);
/// The task that was; no row if there was none.
Query removed_task(std::string_view id);

/// The tasks could not be read or written; nothing was changed.
struct TasksError : std::runtime_error {
    enum class Kind { unavailable, full };
    TasksError(Kind why, const std::string& text) : std::runtime_error(text), kind(why) {}
    Kind kind;  ///< full: the disk is full
};

using Rows = std::vector<Task>;
using Answer = std::variant<Rows, TasksError>;
