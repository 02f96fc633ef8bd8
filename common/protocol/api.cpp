#include "protocol/api.hpp"

#include <fmt/compile.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "base/fib.hpp"
#include "base/text.hpp"
#include "protocol/page.hpp"
#include "protocol/target.hpp"
#include "tasks/query.hpp"

namespace {

using Json = nlohmann::json;

Reply json(std::string body, int status = 200) { return {.status = status, .body = std::move(body)}; }

/// Appends a JSON string. Most need no escape; the library writes the others. Some texts come from the system or another
/// program, and need not be UTF-8.
void add_string(std::string& json, std::string_view text) {
    const auto is_plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
    if (std::all_of(text.begin(), text.end(), is_plain)) return append(json, "\"", text, "\"");
    const bool escape = has_control(text);  // DEL and C1, too: JSON permits them, but curl writes to a terminal
    json += Json(text).dump(-1, ' ', escape, Json::error_handler_t::replace);
}

// --- tasks ------------------------------------------------------------------------------------------------------------

void add_task(std::string& json, const Task& task) {
    json += R"({"id":)";
    add_string(json, task.id);
    json += R"(,"title":)";
    add_string(json, task.title);
    json += R"(,"description":)";
    add_string(json, task.description);
    append(json, R"(,"done":)", task.done ? "true}" : "false}");
}

Reply json(const Task& task, int status = 200) {
    std::string body;
    add_task(body, task);
    return json(std::move(body), status);
}

/// What a body says about a task, or what is wrong with the body.
struct Body {
    Change change;
    std::string wrong;
};

Body read_body(const std::string& text) {
    std::map<std::string, Json> given;  // if a member is given twice, the last one counts
    std::string name;
    // The library keeps only the root of its tree: destroying a whole tree needs memory, and without it the program ends.
    const auto take = [&](int depth, Json::parse_event_t event, const Json& read) {
        if (depth == 1 && event == Json::parse_event_t::key)
            name = read;
        else if (depth == 1)
            given[name] = read;
        return depth == 0;
    };
    // The library would take a NUL for the end of the text.
    if (text.find('\0') != text.npos || !Json::parse(text, take, false).is_object())
        return {{}, "the body must be a JSON object"};
    Body body;
    for (const auto& [member, value] : given) {
        if (member == "done") {
            if (!value.is_boolean()) return {{}, "done must be true or false"};
            body.change.done = value.get<bool>();
        } else if (member == "title" || member == "description") {
            if (!value.is_string()) return {{}, member + " must be a string"};
            (member == "title" ? body.change.title : body.change.description) = value.get<std::string>();
        }
    }
    if (body.change.title) body.wrong = title_fault(*body.change.title);
    if (body.wrong.empty() && body.change.description) body.wrong = description_fault(*body.change.description);
    return body;
}

Store ask(Query query, std::function<Work(const Rows&)> then) { return {std::move(query), std::move(then), http_error}; }

Reply no_task() { return http_error(404, "no such task"); }

// --- the routes -----------------------------------------------------------------------------------------------------------

/// One call of a route.
struct Call {
    const HttpRequest& request;
    const Target& target;
    const Service& service;
};

Work list(const Call&) {
    return ask(all_tasks(), [](const Rows& tasks) {
        std::string all = "[";
        for (const Task& task : tasks) {
            if (all.size() > 1) all += ',';
            add_task(all, task);
        }
        return json(all + ']');
    });
}

Reply found(const Rows& tasks) { return tasks.empty() ? no_task() : json(tasks.front()); }

Work one(const Call& call) { return ask(task(call.target.last()), found); }

/// A page elsewhere can make a browser send forms here, but not JSON: for that, the browser asks first (CORS preflight), and
/// this server does not allow it.
bool declares_json(const HttpRequest& request) {
    const std::string_view type = request.content_type;
    return equal_ignoring_case(trimmed(type.substr(0, type.find(';'))), "application/json");
}

Work add(const Call& call) {
    if (!declares_json(call.request)) return http_error(415, "the body must be declared application/json");
    Body body = read_body(call.request.body);
    if (body.wrong.empty() && !body.change.title) body.wrong = "title is required";
    if (!body.wrong.empty()) return http_error(400, body.wrong);
    const Task task{{}, *body.change.title, body.change.description.value_or(""), body.change.done.value_or(false)};
    return ask(new_task(task), [](const Rows& added) {
        if (added.empty()) return http_error(507, list_full);
        Reply reply = json(added.front(), 201);
        reply.fields = fmt::format("Location: /api/tasks/{}\r\n", added.front().id);
        return reply;
    });
}

Work change(const Call& call) {
    if (!declares_json(call.request)) return http_error(415, "the body must be declared application/json");
    const Body body = read_body(call.request.body);
    if (!body.wrong.empty()) return http_error(400, body.wrong);
    return ask(changed_task(call.target.last(), body.change), found);
}

Work remove(const Call& call) {
    return ask(removed_task(call.target.last()),
               [](const Rows& gone) { return gone.empty() ? no_task() : Reply{.status = 204}; });
}

Reply say_fib(int n, std::uint64_t value) { return json(fmt::format(FMT_COMPILE(R"({{"n":{},"fib":{}}})"), n, value)); }

Work compute_fib(int n) {
    if (n <= fib_at_once) return say_fib(n, fib(n));
    return Compute{n, say_fib};
}

Work fib_of(const Call& call) {
    const int largest = call.service.options.max_fib;
    const auto n = parse_whole(call.target.last());
    if (!n || *n < 1 || *n > largest) return http_error(400, fmt::format("a whole number from 1 to {} is wanted", largest));
    return compute_fib(*n);
}

Work sleep_for(double seconds) {
    return Wait{std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9)),
                json(fmt::format(R"({{"slept":{}}})", seconds))};
}

Work sleep_so_long(const Call& call) {
    const auto seconds = parse_seconds(call.target.last());
    if (!seconds || *seconds > sleep_limit.count())
        return http_error(400, fmt::format("seconds from 0 to {} are wanted", sleep_limit.count()));
    return sleep_for(*seconds);
}

Work cpu_task(const Call& call) { return compute_fib(std::min(45, call.service.options.max_fib)); }

Work io_task(const Call&) { return sleep_for(1); }

Work hello(const Call& call) {
    const auto name = parameter(call.target.query, "name");
    if (!name) return http_error(400, "a name is wanted, as in /say/hello?name=alice");
    if (const auto wrong = line_fault("name", *name); !wrong.empty()) return http_error(400, wrong);
    return Wait{std::chrono::seconds(1),
                {.body = fmt::format("hello {}", *name), .fields = "Content-Type: text/plain; charset=utf-8\r\n"}};
}

Work server(const Call& call) {
    return Count{[&service = call.service](std::uint64_t answered) {
        return json(fmt::format(R"({},"pid":{},"count":{}}})", service.server, this_process(), answered));
    }};
}

Work start_page(const Call&) {
    // The page's own policy cannot say who may put it in a frame. Another site could lay it invisibly over its own buttons.
    return Reply{.body = std::string(page()),
                 .fields =
                     "Content-Type: text/html; charset=utf-8\r\n"
                     "Content-Security-Policy: frame-ancestors 'none'\r\n"};
}

struct Route {
    std::string_view method;
    std::string_view path;  ///< an asterisk at the end stands for any last segment
    Work (*run)(const Call&);

    [[nodiscard]] bool leads_to(const Target& target) const {
        if (path.back() != '*') return path == target.path;
        return path.substr(0, path.size() - 1) == target.parent() && !target.last().empty();
    }
    /// A route for GET also answers HEAD.
    [[nodiscard]] bool takes(std::string_view asked) const {
        return method == asked || (asked == "HEAD" && method == "GET");
    }
};

constexpr std::array routes = {
    Route{"GET", "/", start_page},           Route{"GET", "/api/tasks", list},  Route{"POST", "/api/tasks", add},
    Route{"POST", "/api/task", add},         Route{"GET", "/api/tasks/*", one}, Route{"PUT", "/api/tasks/*", change},
    Route{"DELETE", "/api/tasks/*", remove}, Route{"GET", "/fib/*", fib_of},    Route{"GET", "/sleep/*", sleep_so_long},
    Route{"GET", "/cpuTask", cpu_task},      Route{"GET", "/ioTask", io_task},  Route{"GET", "/say/hello", hello},
    Route{"GET", "/server", server},
};

/// The methods that a target allows, as the Allow field lists them; empty if no route leads there.
std::string allowed_methods(const Target& target) {
    std::string allow;
    for (const Route& route : routes) {
        const std::string_view methods = route.method == "GET" ? "GET, HEAD" : route.method;
        const bool leads = target.path == "*" || route.leads_to(target);
        if (leads && allow.find(methods) == allow.npos) allow += (allow.empty() ? "" : ", ") + std::string(methods);
    }
    return allow;
}

}  // namespace

Reply http_error(int status, std::string_view text) {
    std::string body = R"({"error":)";
    add_string(body, text);
    return json(body + '}', status);
}

Work api_work(const HttpRequest& request, const Service& service) {
    const auto target = parse_target(request.method, request.target);
    if (!target) return http_error(400, "the request's target is malformed");
    // An absolute target names the host itself. Then the Host field is ignored (RFC 9112, 3.2.2).
    const std::string_view host = target->host.empty() ? request.host : target->host;
    if (!host.empty() && !is_allowed(host, service.options)) return http_error(421, "this server does not have that name");
    if (target->secure) return http_error(421, "TLS is not spoken here");
    for (const Route& route : routes)
        if (route.leads_to(*target) && route.takes(request.method)) return route.run({request, *target, service});
    const std::string allow = allowed_methods(*target);
    if (allow.empty()) return http_error(404, "there is nothing at this path");
    Reply reply = http_error(405, fmt::format("the methods allowed here: {}", allow));
    if (request.method == "OPTIONS") reply = {.status = 204};
    reply.fields = fmt::format("Allow: {}\r\n", allow);
    return reply;
}
