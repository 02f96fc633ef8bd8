#include "line_protocol.hpp"

#include <fmt/compile.h>

#include <array>

#include "fib.hpp"
#include "limits.hpp"
#include "log.hpp"
#include "tasks.hpp"
#include "text.hpp"

namespace {

Reply text(std::string body) { return Reply{.body = std::move(body)}; }

/// The first word, and what follows it without blanks at its ends.
struct Words {
    std::string_view first, rest;
    explicit Words(std::string_view line) : first(line.substr(0, line.find_first_of(" \t"))) {
        rest = trimmed(line.substr(first.size()));
    }
};

/// Enough of an id to name its task, most likely.
std::string_view short_id(const Task& task) { return std::string_view(task.id).substr(0, 8); }

/// How a task is shown in one line.
std::string brief(const Task& task) { return fmt::format("{} {}", short_id(task), task.title); }

/// Work on the tasks: whatever goes wrong there becomes the reply.
template <class Run>
Store on_tasks(bool writes, Run run) {
    return {writes, [run = std::move(run)](Tasks& tasks, std::uint64_t) {
                try {
                    return run(tasks);
                } catch (const TasksError& error) {
                    Reply reply = line_error(error.what());
                    reply.status = error.kind == TasksError::Kind::full ? 507 : 503;
                    if (reply.status == 503) logging::trouble("The tasks", error.what());
                    return reply;
                }
            }};
}

/// Work on the one task whose id begins so.
template <class Run>
Store on_task(bool writes, std::string_view id, Run run) {
    return on_tasks(writes, [id = std::string(id), run = std::move(run)](Tasks& tasks) {
        const auto found = tasks.named(id);
        if (found.empty()) return line_error(fmt::format("no task's id begins with '{}', list shows them", printable(id)));
        if (found.size() > 1)
            return line_error(fmt::format("more than one task's id begins with '{}', give more of it", printable(id)));
        return run(tasks, found.front());
    });
}

/// A change of one task; the reply says what was changed.
Store change_task(const char* changed, std::string_view id, Change change) {
    return on_task(true, id, [changed, change = std::move(change)](Tasks& tasks, const Task& task) {
        const auto now = tasks.change(task.id, change);
        if (!now) return line_error("the task has just been deleted");
        return text(fmt::format("{}: {} {}", changed, short_id(*now), change.description.value_or(now->title)));
    });
}

Work fib_of(std::string_view argument, const Service& service) {
    const int largest = service.options.max_fib;
    const auto n = parse_whole(argument);
    if (!n || *n < 1 || *n > largest)
        return line_error(fmt::format("fib wants a whole number from 1 to {}, as in: fib 30", largest));
    const auto say = [](int, std::uint64_t value) { return text(fmt::format(FMT_COMPILE("fib: {}"), value)); };
    if (*n <= fib_at_once) return say(*n, fib(*n));
    return Compute{*n, say};
}

Work sleep_for(std::string_view argument, const Service&) {
    const auto seconds = parse_seconds(argument);
    if (!seconds || *seconds > sleep_limit.count())
        return line_error(fmt::format("sleep wants seconds from 0 to {}, as in: sleep 1.5", sleep_limit.count()));
    return Wait{std::chrono::nanoseconds(static_cast<std::int64_t>(*seconds * 1e9)),
                text(fmt::format("slept: {}", argument))};
}

Work hello(std::string_view name, const Service&) {
    if (const auto wrong = name_fault(name); !wrong.empty()) return line_error(wrong + ", as in: hello alice");
    return Wait{std::chrono::seconds(1), text(fmt::format("hello: {}", name))};
}

Work add(std::string_view title, const Service&) {
    if (const auto wrong = title_fault(title); !wrong.empty()) return line_error(wrong + ", as in: add buy milk");
    return on_tasks(true, [task = Task{.id = {}, .title = std::string(title), .description = {}}](Tasks& tasks) {
        return text(fmt::format("added: {}", brief(tasks.add(task))));
    });
}

Work list(std::string_view, const Service&) {
    return on_tasks(false, [](Tasks& tasks) {
        const auto all = tasks.list();
        std::string lines = fmt::format("tasks: {}", all.size());
        for (const Task& task : all)
            fmt::format_to(std::back_inserter(lines), "\n[{}] {}", task.done ? 'x' : ' ', brief(task));
        return text(std::move(lines));
    });
}

Work show(std::string_view id, const Service&) {
    return on_task(false, id, [](Tasks&, const Task& task) {
        return text(fmt::format("task: 4\nid: {}\ntitle: {}\ndescription: {}\ndone: {}", task.id, task.title,
                                printable(task.description), task.done));
    });
}

Work edit(std::string_view argument, const Service&) {
    const Words words(argument);
    if (const auto wrong = title_fault(words.rest); !wrong.empty())
        return line_error(wrong + ", as in: edit dba4 buy oat milk");
    return change_task("edited", words.first, {.title = std::string(words.rest), .description = {}, .done = {}});
}

Work describe_task(std::string_view argument, const Service&) {
    const Words words(argument);
    std::string wrong = description_fault(words.rest);
    if (words.rest.empty()) wrong = "a description must not be empty";
    if (wrong.empty() && has_control(words.rest)) wrong = "a description in a line must not hold control characters";
    if (!wrong.empty()) return line_error(wrong + ", as in: describe dba4 two litres");
    return change_task("described", words.first, {.title = {}, .description = std::string(words.rest), .done = {}});
}

Work done(std::string_view id, const Service&) {
    return change_task("done", id, {.title = {}, .description = {}, .done = true});
}

Work undo(std::string_view id, const Service&) {
    return change_task("undone", id, {.title = {}, .description = {}, .done = false});
}

Work remove(std::string_view id, const Service&) {
    return on_task(true, id, [](Tasks& tasks, const Task& task) {
        const auto gone = tasks.remove(task.id);
        return gone ? text(fmt::format("deleted: {}", brief(*gone))) : line_error("the task has just been deleted");
    });
}

Work count(std::string_view, const Service&) {
    // To ask how many requests were answered is not one of them: asking twice gives the same answer.
    return Store{false, [](Tasks&, std::uint64_t answered) {
                     Reply reply = text(fmt::format("count: {}", answered));
                     reply.counted = false;
                     return reply;
                 }};
}

Work help(std::string_view, const Service&);

Work quit(std::string_view, const Service&) {
    Reply reply = text("bye:");
    reply.hang_up = true;
    return reply;
}

struct Command {
    std::string_view name;
    std::string_view arguments;  ///< as help shows them; empty: it takes none
    std::string_view what;
    Work (*run)(std::string_view argument, const Service&);
};

constexpr std::array commands = {
    Command{"fib", "N", "the N-th Fibonacci number, slowly; N alone does, too", fib_of},
    Command{"sleep", "SECONDS", "wait so long", sleep_for},
    Command{"hello", "NAME", "wait a second and say hello", hello},
    Command{"add", "TITLE", "add a task", add},
    Command{"list", "", "all tasks", list},
    Command{"show", "ID", "one task, named by the beginning of its id", show},
    Command{"edit", "ID TITLE", "give it another title", edit},
    Command{"describe", "ID TEXT", "give it a description", describe_task},
    Command{"done", "ID", "tick it", done},
    Command{"undo", "ID", "untick it", undo},
    Command{"delete", "ID", "delete it", remove},
    Command{"count", "", "how many requests were answered", count},
    Command{"help", "", "this list", help},
    Command{"quit", "", "close the connection", quit},
};

Work help(std::string_view, const Service&) {
    std::string lines = fmt::format("commands: {}", commands.size());
    for (const Command& command : commands)
        fmt::format_to(std::back_inserter(lines), "\n{:<18}{}", fmt::format("{} {}", command.name, command.arguments),
                       command.what);
    return text(std::move(lines));
}

}  // namespace

Reply line_error(std::string_view what) { return Reply{.status = 400, .body = fmt::format("error: {}", what)}; }

Work line_work(std::string_view line, const Service& service) {
    const Words words(trimmed(line));
    for (const Command& command : commands) {
        if (words.first != command.name) continue;
        if (command.arguments.empty() && !words.rest.empty())
            return line_error(fmt::format("{} takes nothing after it", command.name));
        if (!command.arguments.empty() && words.rest.empty())
            return line_error(fmt::format("what is wanted is: {} {}", command.name, command.arguments));
        return command.run(words.rest, service);
    }
    if (words.rest.empty() && parse_whole(words.first.substr(0, 1))) return fib_of(words.first, service);
    return line_error("no such command, help lists them");
}
