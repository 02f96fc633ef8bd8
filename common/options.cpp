#include "options.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fib.hpp"
#include "text.hpp"
#include "work.hpp"

namespace {

constexpr auto version = "1.0.0";
constexpr double longest_timeout = 1e9;  // 31 years: more would overflow a clock that counts nanoseconds

/// Plain digits in a range: CLI11's own conversion would take 010 for 8.
CLI::Validator whole_number(int lowest, int highest) {
    const std::string range = fmt::format("{} to {}", lowest, highest);
    return {[=](const std::string& text) {
                const auto number = parse_whole(text);
                if (number && *number >= lowest && *number <= highest) return std::string();
                return fmt::format("a whole number from {} is wanted, not '{}'", range, printable(text));
            },
            range};
}

CLI::Validator seconds(double highest) {
    const std::string range = fmt::format("0 to {:.0f}", highest);
    return {[=](const std::string& text) {
                const auto number = parse_seconds(text);
                if (number && *number <= highest) return std::string();
                return fmt::format("seconds from {} are wanted, not '{}'", range, printable(text));
            },
            range};
}

using std::chrono::nanoseconds;

nanoseconds to_duration(const std::string& text) {
    return std::chrono::ceil<nanoseconds>(std::chrono::duration<double>(*parse_seconds(text)));
}

double to_seconds(nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

/// A stage's own option while the command line is read: as text, like the others.
struct OwnOption {
    const StageOption* of;
    CLI::Option* option;
    std::string text;
};

std::string default_text(const StageOption& own) {
    return std::visit(Overloaded{
                          [](const StageOption::WholeNumber& number) {
                              const bool none = number.value < number.lowest || number.value > number.highest;
                              return none ? std::string() : std::to_string(number.value);
                          },
                          [](const StageOption::Seconds& seconds) { return fmt::format("{:g}", to_seconds(seconds.value)); },
                          [](const StageOption::OneOf& word) { return word.value; },
                      },
                      own.kind);
}

void add(CLI::App& app, OwnOption& own) {
    own.text = default_text(*own.of);
    own.option = app.add_option(own.of->names, own.text, own.of->help);
    if (!own.text.empty()) own.option->capture_default_str();
    if (!own.of->needs.empty()) own.option->needs(own.of->needs);
    if (auto* const number = std::get_if<StageOption::WholeNumber>(&own.of->kind))
        own.option->check(whole_number(number->lowest, number->highest));
    else if (auto* const word = std::get_if<StageOption::OneOf>(&own.of->kind))
        own.option->check(CLI::IsMember(word->words));
    else
        own.option->check(seconds(longest_timeout));
}

/// Gives the value to the stage, and returns it as JSON.
std::string take(const OwnOption& own) {
    return std::visit(Overloaded{
                          [&](const StageOption::WholeNumber& number) {
                              number.value = std::stoi(own.text);
                              return own.text;
                          },
                          [&](const StageOption::Seconds& seconds) {
                              seconds.value = to_duration(own.text);
                              return fmt::format("{}", to_seconds(seconds.value));
                          },
                          [&](const StageOption::OneOf& word) {
                              word.value = own.text;
                              return '"' + own.text + '"';
                          },
                      },
                      own.of->kind);
}

}  // namespace

void wrong_usage(const About& about, const std::string& what) {
    std::fputs(fmt::format("{}: {} (see {} --help)\n", about.name, what, about.name).c_str(), stderr);
    std::exit(2);
}

Options parse_options(int argc, char** argv, About about, const std::vector<StageOption>& of_stage) {
    Options options;
    std::string framing = "line";
    std::string idle = "300";
    CLI::App app{fmt::format("A fib and ToDo server over plain sockets: {}.", about.technique), about.name};
    app.set_version_flag("--version", fmt::format("{} {}", about.name, version));
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    // Numbers are read as text and checked before they are converted, so that the range is part of the message.
    std::string port = "9999";
    std::string max_fib = "50";
    std::string max_clients = std::to_string(about.max_clients.value_or(1));
    app.add_option("-p,--port", port, "TCP port; 0 takes any free one, and the ready line names it")
        ->check(whole_number(0, 65535))
        ->capture_default_str();
    app.add_option("--host", options.host, "a name or address to listen on, IPv4 or IPv6")->capture_default_str();
    app.add_option("--db", options.db, "the file that keeps the tasks; :memory: keeps them in the process alone")
        ->check([](const std::string& name) { return name.empty() ? "a file's name is wanted" : ""; })
        ->capture_default_str();
    app.add_option("--idle-timeout", idle,
                   "seconds after which a client who neither completes a request nor takes a reply is let go; 0: never")
        ->check(seconds(longest_timeout))
        ->capture_default_str();
    CLI::Option* limit = nullptr;
    if (about.max_clients)
        limit = app.add_option(
                       "--max-clients", max_clients,
                       "clients served at once, by each worker if there are any; one more is told that the server is full")
                    ->check(whole_number(1, 1'000'000))
                    ->capture_default_str();
    app.add_option("--max-fib", max_fib, "the largest n that fib accepts")
        ->check(whole_number(1, fib_limit))
        ->capture_default_str();
    app.add_option("--framing", framing,
                   "line: a request ends with its line; recv: each chunk that recv(2) returns is a request, no HTTP")
        ->check(CLI::IsMember({"line", "recv"}))
        ->capture_default_str();
    app.add_option("--allow-host", options.allowed_hosts,
                   "one more name that HTTP's Host may bear (may be given again; *: any)")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
    app.add_option("--pid-file", options.pid_file, "written when ready, removed at the end");
    auto* verbose = app.add_flag("-v,--verbose", options.verbose, "a line per request on standard error");
    app.add_flag("-q,--quiet", options.quiet, "nothing but errors on standard error")->excludes(verbose);
    std::vector<OwnOption> own_options;
    own_options.reserve(of_stage.size());
    for (const StageOption& own : of_stage) {
        add(app, own_options.emplace_back(OwnOption{&own, nullptr, {}}));
        if (own.fixes_clients && limit) own_options.back().option->excludes(limit);
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) std::exit(app.exit(error));
        wrong_usage(about, printable(error.what()));
    }
    for (const OwnOption& own : own_options) {
        const bool given = own.option->count() > 0;
        if (given && own.of->fixes_clients) about.max_clients.reset();
        const bool meaningless = !given && (own.text.empty() || (!own.of->needs.empty() && app.count(own.of->needs) == 0));
        if (!meaningless) options.of_stage.emplace_back(own.option->get_single_name(), take(own));
    }
    options.about = std::move(about);
    options.command_line = {argv[0], argv[argc - 1] + std::strlen(argv[argc - 1])};  // string behind string
    options.port = std::stoi(port);
    options.max_fib = std::stoi(max_fib);
    options.max_clients = std::stoi(max_clients);
    options.idle_timeout = to_duration(idle);
    options.framing = framing == "recv" ? Framing::recv : Framing::line;
    return options;
}

std::string describe(const Options& options) {
    nlohmann::ordered_json in_force = {
        {"port", options.port},
        {"host", options.host},
        {"db", options.db},
        {"idle_timeout", to_seconds(options.idle_timeout)},
        {"max_fib", options.max_fib},
        {"framing", options.framing == Framing::recv ? "recv" : "line"},
        {"allow_host", options.allowed_hosts},
        {"pid_file", options.pid_file},
        {"verbose", options.verbose},
        {"quiet", options.quiet},
    };
    if (options.about.max_clients) in_force["max_clients"] = options.max_clients;
    for (const auto& [name, value] : options.of_stage) {
        std::string key = name;
        std::replace(key.begin(), key.end(), '-', '_');
        in_force[key] = nlohmann::ordered_json::parse(value);
    }
    const nlohmann::ordered_json server = {
        {"server", options.about.name}, {"technique", options.about.technique}, {"options", std::move(in_force)}};
    // What a command line holds need not be UTF-8, which JSON must be.
    std::string text = server.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    text.pop_back();
    return text;
}
