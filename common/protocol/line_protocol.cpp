#include "protocol/line_protocol.hpp"

#include <fmt/compile.h>

#include <array>

#include "base/fib.hpp"
#include "base/text.hpp"
#include "protocol/http.hpp"
#include "tasks/query.hpp"

namespace {

Reply text(std::string body) { return Reply{.body = std::move(body)}; }

/// The first word, and what follows it without blanks at its ends.
struct Words {
    std::string_view first, rest;
    explicit Words(std::string_view line) : first(line.substr(0, line.find_first_of(" \t"))) {
        rest = trimmed(line.substr(first.size()));
    }
};

/// Mostly enough of an id to name its task. Made printable, because another program may have written the id.
std::string short_id(const Task& task) { return printable(std::string_view(task.id).substr(0, 8)); }

/// How a task is shown in one line.
std::string brief(const Task& task) { return fmt::format("{} {}", short_id(task), printable(task.title)); }

Reply sorry(int status, std::string_view why) { return {.status = status, .body = fmt::format("error: {}", why)}; }

Store ask(Query query, std::function<Work(const Rows&)> then) { return {std::move(query), std::move(then), sorry}; }

/// Asks which task's id has this beginning, and goes on with `then` for that task.
template <class Then>
Store on_task(std::string_view id, Then then) {
    return ask(tasks_named(id), [id = std::string(id), then = std::move(then)](const Rows& found) -> Work {
        if (found.empty()) return line_error(fmt::format("no task's id begins with '{}', list shows them", printable(id)));
        if (found.size() > 1)
            return line_error(fmt::format("more than one task's id begins with '{}', give more of it", printable(id)));
        return then(found.front());
    });
}

Reply deleted_meanwhile() { return line_error("the task has just been deleted"); }

/// Changes one task. The reply shows what was changed.
Store change_task(const char* changed, std::string_view id, Change change) {
    return on_task(id, [changed, change = std::move(change)](const Task& task) {
        return ask(changed_task(task.id, change), [changed, described = change.description](const Rows& now) {
            if (now.empty()) return deleted_meanwhile();
            const std::string& shown = described ? *described : now.front().title;
            return text(fmt::format("{}: {} {}", changed, short_id(now.front()), printable(shown)));
        });
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
    if (const auto wrong = line_fault("name", name); !wrong.empty()) return line_error(wrong + ", as in: hello alice");
    return Wait{std::chrono::seconds(1), text(fmt::format("hello: {}", name))};
}

Work add(std::string_view title, const Service&) {
    if (const auto wrong = title_fault(title); !wrong.empty()) return line_error(wrong + ", as in: add buy milk");
    return ask(new_task({.id = {}, .title = std::string(title), .description = {}}), [](const Rows& added) {
        return added.empty() ? sorry(507, list_full) : text(fmt::format("added: {}", brief(added.front())));
    });
}

Work list(std::string_view, const Service&) {
    return ask(all_tasks(), [](const Rows& all) {
        std::string lines = fmt::format("tasks: {}", all.size());
        for (const Task& task : all)
            fmt::format_to(std::back_inserter(lines), "\n[{}] {}", task.done ? 'x' : ' ', brief(task));
        return text(std::move(lines));
    });
}

Work show(std::string_view id, const Service&) {
    return on_task(id, [](const Task& task) {
        return text(fmt::format("task: 4\nid: {}\ntitle: {}\ndescription: {}\ndone: {}", printable(task.id),
                                printable(task.title), printable(task.description), task.done));
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
    return on_task(id, [](const Task& task) {
        return ask(removed_task(task.id), [](const Rows& gone) {
            return gone.empty() ? deleted_meanwhile() : text(fmt::format("deleted: {}", brief(gone.front())));
        });
    });
}

Work count(std::string_view, const Service&) {
    // This request does not count itself, so asking twice gives the same answer.
    return Count{[](std::uint64_t answered) { return Reply{.body = fmt::format("count: {}", answered), .counted = false}; }};
}

Work help(std::string_view, const Service&);

Work quit(std::string_view, const Service&) { return Reply{.body = "bye:", .hang_up = true}; }

struct Command {
    std::string_view name;
    std::string_view arguments;  ///< as help shows them; empty: it takes none
    std::string_view what;
    Work (*run)(std::string_view argument, const Service&);
};

constexpr std::array commands = {
    Command{"fib", "N", "the N-th Fibonacci number, slowly; N alone works, too", fib_of},
    Command{"sleep", "SECONDS", "wait that long", sleep_for},
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

bool begins_tls(std::string_view line) noexcept { return line.starts_with("\x16\x03"); }

const char* first_line_fault(std::string_view line) {
    if (begins_tls(line)) return "TLS is not spoken here";
    if (!is_text(beginning(line, line_limit))) return "the first line is not text";
    return line.starts_with("PROXY ") ? "the PROXY protocol is not spoken here" : nullptr;
}

const char* later_line_fault(std::string_view line) {
    const bool http =
        line.size() > line_limit ? begins_with_method(beginning(line, line_limit)) : is_whole_request_line(trimmed(line));
    return http ? "HTTP is spoken from the first line on, or not at all" : nullptr;
}

Reply line_error(std::string_view what) { return sorry(400, what); }

Reply last_line_error(std::string_view what) {
    Reply reply = line_error(what);
    reply.hang_up = true;
    return reply;
}

Work line_work(std::string_view line, const Service& service) {
    const Words words(trimmed(line));
    if (words.rest.empty() && parse_whole(words.first.substr(0, 1))) return fib_of(words.first, service);
    for (const Command& command : commands) {
        if (words.first != command.name) continue;
        if (command.arguments.empty() && !words.rest.empty())
            return line_error(fmt::format("{} takes no argument", command.name));
        if (!command.arguments.empty() && words.rest.empty())
            return line_error(fmt::format("usage: {} {}", command.name, command.arguments));
        return command.run(words.rest, service);
    }
    return line_error("no such command, help lists them");
}
