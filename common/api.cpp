#include "api.hpp"

#include <arpa/inet.h>
#include <fmt/compile.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "fib.hpp"
#include "limits.hpp"
#include "log.hpp"
#include "page.hpp"
#include "tasks.hpp"
#include "text.hpp"

namespace {

constexpr auto json_type = "application/json";

Reply json(std::string body, int status = 200) {
    Reply reply;
    reply.status = status;
    reply.type = json_type;
    reply.body = std::move(body);
    return reply;
}

/// A JSON string. Most need no escape; to find one, and to write it, is the library's affair. Some texts are the system's,
/// or another program's, and need not be UTF-8.
std::string json_string(std::string_view text) {
    const auto is_plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
    if (std::all_of(text.begin(), text.end(), is_plain)) return fmt::format(FMT_COMPILE("\"{}\""), text);
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// --- the target (RFC 9112, 3.2) ----------------------------------------------------------------------------------------

int hex(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Percent-encoding undone (RFC 3986, 2.1); nothing where it is malformed or does not give UTF-8.
std::optional<std::string> decoded(std::string_view text) {
    if (text.find('%') == text.npos && is_utf8(text)) return std::string(text);
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            plain += text[i];
            continue;
        }
        const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1;
        const int low = i + 2 < text.size() ? hex(text[i + 2]) : -1;
        if (high < 0 || low < 0) return {};
        plain += static_cast<char>(high * 16 + low);
        i += 2;
    }
    if (!is_utf8(plain)) return {};
    return plain;
}

/// A target taken apart. Parts of it are in the text that it was made from, which must outlive it.
struct Target {
    std::string_view authority;  ///< of an absolute target; else empty
    std::string path;            ///< decoded
    std::string_view query;      ///< as sent

    // For the routes that end in a segment of any value.
    [[nodiscard]] std::string_view parent() const { return std::string_view(path).substr(0, path.rfind('/') + 1); }
    [[nodiscard]] std::string_view last() const { return std::string_view(path).substr(path.rfind('/') + 1); }
};

std::optional<Target> parse_target(std::string_view text) {
    Target target;
    if (const auto scheme = text.find("://"); scheme != text.npos && text.front() != '/') {
        if (!equal_ignoring_case(text.substr(0, scheme), "http")) return {};
        text.remove_prefix(scheme + 3);
        const auto path = std::min(text.find_first_of("/?"), text.size());
        target.authority = text.substr(0, path);
        text.remove_prefix(path);
        if (target.authority.empty()) return {};
    } else if (text.empty() || text.front() != '/') {
        return {};
    }
    if (text.find('#') != text.npos) return {};
    const auto query = std::min(text.find('?'), text.size());
    if (query < text.size()) target.query = text.substr(query + 1);
    const std::string_view path = query == 0 ? "/" : text.substr(0, query);
    auto plain = decoded(path);
    if (!plain || has_control(*plain)) return {};
    target.path = std::move(*plain);
    // A slash that was encoded is no separator (RFC 3986, 2.2), and no name here holds one: such a path leads nowhere.
    if (std::count(path.begin(), path.end(), '/') != std::count(target.path.begin(), target.path.end(), '/'))
        target.path = "";
    return target;
}

/// A parameter of a query, decoded as forms encode (a plus is a blank); nothing where it is missing or malformed.
std::optional<std::string> parameter(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        const auto end = std::min(query.find('&'), query.size());
        std::string pair(query.substr(0, end));
        query.remove_prefix(std::min(end + 1, query.size()));
        std::replace(pair.begin(), pair.end(), '+', ' ');
        const auto equals = pair.find('=');
        if (equals != pair.npos && decoded(pair.substr(0, equals)) == name) return decoded(pair.substr(equals + 1));
    }
    return {};
}

// --- whose requests are taken --------------------------------------------------------------------------------------------

bool is_address(int family, std::string_view name) {
    in6_addr address{};
    return inet_pton(family, std::string(name).c_str(), &address) == 1;
}

/// A web page elsewhere whose name suddenly resolves to this machine (DNS rebinding) can make a browser ask here, but only
/// under its own name: so only the names that are known to be this server's are answered.
bool is_allowed(std::string_view host, const Options& options) {
    if (const auto colon = host.rfind(':'); colon != host.npos && host.find(']', colon) == host.npos) {
        if (host.find_first_not_of("0123456789", colon + 1) != host.npos) return false;
        host = host.substr(0, colon);  // without its port
    }
    if (host.starts_with('[')) return host.ends_with(']') && is_address(AF_INET6, host.substr(1, host.size() - 2));
    const auto is = [host](std::string_view name) { return equal_ignoring_case(name, host); };
    return is("localhost") || is_address(AF_INET, host) || is(options.host) ||
           std::any_of(options.allowed_hosts.begin(), options.allowed_hosts.end(),
                       [&](const std::string& name) { return name == "*" || is(name); });
}

// --- tasks ------------------------------------------------------------------------------------------------------------

std::string as_json(const Task& task) {
    return fmt::format(FMT_COMPILE(R"({{"id":{},"title":{},"description":{},"done":{}}})"), json_string(task.id),
                       json_string(task.title), json_string(task.description), task.done);
}

/// Takes from a JSON object what it says of a task, as the parser comes to it. No tree is built of the rest: the library's
/// trees need memory even to be destroyed, and where there is none, that ends the program.
class Members final : public nlohmann::json_sax<nlohmann::json> {
   public:
    using Value = nlohmann::json;  // a string or a truth value; null for any other type
    std::optional<Value> title;
    std::optional<Value> description;
    std::optional<Value> done;

    bool null() override { return is({}); }
    bool boolean(bool value) override { return is(value); }
    bool number_integer(number_integer_t /*value*/) override { return is({}); }
    bool number_unsigned(number_unsigned_t /*value*/) override { return is({}); }
    bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return is({}); }
    bool string(string_t& value) override { return is(std::move(value)); }
    bool binary(binary_t& /*value*/) override { return false; }
    bool start_object(std::size_t /*size*/) override {
        is({});
        ++depth_;
        return true;
    }
    bool key(string_t& name) override {
        if (depth_ == 1)
            member_ = name == "title" ? &title : name == "description" ? &description : name == "done" ? &done : nullptr;
        return true;
    }
    bool end_object() override { return end(); }
    bool start_array(std::size_t /*size*/) override {
        const bool inside = is({});
        ++depth_;
        return inside;
    }
    bool end_array() override { return end(); }
    bool parse_error(std::size_t /*place*/, const std::string& /*token*/,
                     const nlohmann::detail::exception& /*why*/) override {
        return false;
    }

   private:
    /// What the member at hand is; where it is given twice, the last one counts. False, which ends it all, outside of an
    /// object.
    bool is(Value value) {
        if (depth_ == 0) return false;
        if (member_ && depth_ == 1) *member_ = std::move(value);
        return true;
    }

    bool end() noexcept {
        --depth_;
        return true;
    }

    int depth_ = 0;  // in objects and arrays
    std::optional<Value>* member_ = nullptr;
};

/// The members that a body may give a task; or what is wrong with it.
struct Body {
    Change change;
    std::string wrong;
};

Body read_body(const std::string& text) {
    Body body;
    Members given;
    // The library takes a NUL for the end of the text.
    if (text.find('\0') != text.npos || !nlohmann::json::sax_parse(text, &given))
        return {{}, "the body must be a JSON object"};
    if (given.title) {
        if (!given.title->is_string()) return {{}, "title must be a string"};
        body.change.title = given.title->get<std::string>();
        body.wrong = title_fault(*body.change.title);
    }
    if (given.description) {
        if (!given.description->is_string()) return {{}, "description must be a string"};
        body.change.description = given.description->get<std::string>();
        if (body.wrong.empty()) body.wrong = description_fault(*body.change.description);
    }
    if (given.done) {
        if (!given.done->is_boolean()) return {{}, "done must be true or false"};
        body.change.done = given.done->get<bool>();
    }
    return body;
}

template <class Run>
Store on_tasks(bool writes, Run run) {
    return {writes, [run = std::move(run)](Tasks& tasks, std::uint64_t) {
                try {
                    return run(tasks);
                } catch (const TasksError& error) {
                    if (error.kind == TasksError::Kind::full) return http_error(507, error.what());
                    logging::trouble("The tasks", error.what());
                    return http_error(503, error.what());
                }
            }};
}

Reply no_task() { return http_error(404, "no such task"); }

// --- the routes -----------------------------------------------------------------------------------------------------------

/// One call of a route.
struct Call {
    const HttpRequest& request;
    const Target& target;
    const Service& service;
};

Work list(const Call&) {
    return on_tasks(false, [](Tasks& tasks) {
        std::string all = "[";
        for (const Task& task : tasks.list()) all += (all.size() > 1 ? "," : "") + as_json(task);
        return json(all + ']');
    });
}

Work one(const Call& call) {
    return on_tasks(false, [id = std::string(call.target.last())](Tasks& tasks) {
        const auto task = tasks.find(id);
        return task ? json(as_json(*task)) : no_task();
    });
}

/// Other web pages may send forms here without asking, but not JSON: a browser asks first, and gets no answer it likes.
bool declares_json(const HttpRequest& request) {
    const std::string_view type = request.content_type;
    return equal_ignoring_case(trimmed(type.substr(0, type.find(';'))), json_type);
}

Work add(const Call& call) {
    if (!declares_json(call.request)) return http_error(415, "the body must be declared application/json");
    Body body = read_body(call.request.body);
    if (body.wrong.empty() && !body.change.title) body.wrong = "title is required";
    if (!body.wrong.empty()) return http_error(400, body.wrong);
    Task task{{}, *body.change.title, body.change.description.value_or(""), body.change.done.value_or(false)};
    return on_tasks(true, [task = std::move(task)](Tasks& tasks) {
        const Task added = tasks.add(task);
        Reply reply = json(as_json(added), 201);
        reply.field = fmt::format("Location: /api/tasks/{}", added.id);
        return reply;
    });
}

Work change(const Call& call) {
    if (!declares_json(call.request)) return http_error(415, "the body must be declared application/json");
    Body body = read_body(call.request.body);
    if (!body.wrong.empty()) return http_error(400, body.wrong);
    return on_tasks(true, [id = std::string(call.target.last()), change = std::move(body.change)](Tasks& tasks) {
        const auto task = tasks.change(id, change);
        return task ? json(as_json(*task)) : no_task();
    });
}

Work remove(const Call& call) {
    return on_tasks(true, [id = std::string(call.target.last())](Tasks& tasks) {
        if (!tasks.remove(id)) return no_task();
        Reply reply;
        reply.status = 204;
        return reply;
    });
}

Reply say_fib(int n, std::uint64_t value) { return json(fmt::format(FMT_COMPILE(R"({{"n":{},"fib":{}}})"), n, value)); }

Work fib_of(const Call& call) {
    const int largest = call.service.options.max_fib;
    const auto n = parse_whole(call.target.last());
    if (!n || *n < 1 || *n > largest) return http_error(400, fmt::format("a whole number from 1 to {} is wanted", largest));
    if (*n <= fib_at_once) return say_fib(*n, fib(*n));
    return Compute{*n, say_fib};
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

Work cpu_task(const Call&) { return Compute{45, say_fib}; }

Work io_task(const Call&) { return sleep_for(1); }

Work hello(const Call& call) {
    const auto name = parameter(call.target.query, "name");
    if (!name) return http_error(400, "a name is wanted, as in /say/hello?name=alice");
    if (const auto wrong = name_fault(*name); !wrong.empty()) return http_error(400, wrong);
    Reply reply;
    reply.type = "text/plain; charset=utf-8";
    reply.body = fmt::format("hello {}", *name);
    return Wait{std::chrono::seconds(1), std::move(reply)};
}

Work server(const Call& call) {
    return Store{false, [&service = call.service](Tasks&, std::uint64_t answered) {
                     return json(fmt::format(R"({},"pid":{},"count":{}}})", service.server, this_process(), answered));
                 }};
}

Work start_page(const Call&) {
    Reply reply;
    reply.type = "text/html; charset=utf-8";
    reply.body = page();
    // What a page may do it says itself, but not who may frame it: another site could lay it invisibly under its own
    // buttons.
    reply.field = "Content-Security-Policy: frame-ancestors 'none'";
    return reply;
}

struct Route {
    std::string_view method;
    std::string_view path;  ///< one that ends in an asterisk stands for any last segment
    Work (*run)(const Call&);

    [[nodiscard]] bool leads_to(const Target& target) const {
        if (path.back() != '*') return path == target.path;
        return path.substr(0, path.size() - 1) == target.parent() && !target.last().empty();
    }
    /// What answers GET answers HEAD.
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

}  // namespace

Reply http_error(int status, std::string_view text) {
    return json(fmt::format(R"({{"error":{}}})", json_string(text)), status);
}

Work api_work(const HttpRequest& request, const Service& service) {
    const auto target = parse_target(request.target);
    if (!target) return http_error(400, "the request's target is malformed");
    // An absolute target says whom it means, and Host counts no more (RFC 9112, 3.2.2).
    const std::string_view host = target->authority.empty() ? request.host : target->authority;
    const bool host_given = !host.empty() || !request.http_1_0;
    if (host_given && !is_allowed(host, service.options)) return http_error(421, "this server does not bear that name");
    std::string allow;
    for (const Route& route : routes) {
        if (!route.leads_to(*target)) continue;
        if (route.takes(request.method)) return route.run({request, *target, service});
        if (!allow.empty()) allow += ", ";
        allow += route.method == "GET" ? "GET, HEAD" : route.method;
    }
    if (allow.empty()) return http_error(404, "no such thing here");
    Reply reply = http_error(405, fmt::format("what may be done with it: {}", allow));
    reply.field = fmt::format("Allow: {}", allow);
    return reply;
}
