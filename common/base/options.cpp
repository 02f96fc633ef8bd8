#include "base/options.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fib.hpp"
#include "base/text.hpp"

namespace {

constexpr auto version = "1.0.0";
constexpr double longest_timeout = 1e9;  // 31 years; a 64-bit count of nanoseconds ends at 292

using std::chrono::duration;
using std::chrono::nanoseconds;

double to_seconds(nanoseconds time) { return duration<double>(time).count(); }

/// A program may be started without standard input, output or error. Then the next descriptors take their numbers, and a
/// client's connection would get the log.
void occupy_standard_descriptors() noexcept {
    int fd = -1;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

}  // namespace

void wrong_usage(const About& about, const std::string& what) {
    std::fputs(fmt::format("{}: {} (see {} --help)\n", about.name, what, about.name).c_str(), stderr);
    std::exit(2);
}

namespace {

/// Accepts a text if `take` does. Its description and its error say what is wanted, the error also what was given instead.
CLI::Validator wanting(const std::string& what, const std::function<bool(std::string&)>& take) {
    const auto check = [=](std::string& text) {
        const std::string given = printable(text);
        return take(text) ? "" : fmt::format("wants {}, not '{}'", what, given);
    };
    return {check, what};
}

}  // namespace

// The next two write the number anew, so that CLI11 and JSON can read it: CLI11 would take 010 for 8.

CLI::Validator whole_number(int lowest, int highest) {
    return wanting(fmt::format("a whole number from {} to {}", lowest, highest), [=](std::string& text) {
        const auto number = parse_whole(text);
        if (!number || *number < lowest || *number > highest) return false;
        text = std::to_string(*number);
        return true;
    });
}

CLI::Option* add_seconds(CLI::App& app, const std::string& names, nanoseconds& value, const std::string& help) {
    const auto check = [](std::string& text) {
        const auto number = parse_seconds(text);
        if (!number || *number > longest_timeout) return false;
        text = fmt::format("{}", *number);
        return true;
    };
    const auto take = [&](double seconds) { value = std::chrono::ceil<nanoseconds>(duration<double>(seconds)); };
    return app.add_option_function<double>(names, take, help)
        ->transform(wanting(fmt::format("seconds from 0 to {:.0f}", longest_timeout), check))
        ->default_str(fmt::format("{:g}", to_seconds(value)));
}

CLI::Validator one_of(const std::vector<std::string>& words) {
    const auto is_one = [=](const std::string& text) { return std::find(words.begin(), words.end(), text) != words.end(); };
    return wanting(CLI::detail::join(words, " or "), is_one);
}

namespace {

// ---- --help -------------------------------------------------------------------------------------------------------------

constexpr auto of_stage = "This stage";

/// Leaves out ranges and which options exclude or need which: the errors tell. Descriptions have at most 50 columns.
class Help : public CLI::Formatter {
   public:
    Help() {
        label("INT", "N");
        label("FLOAT", "SECONDS");
        label("TEXT", "WORD");
    }
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
        // One blank line between groups: CLI11 2.1 makes two.
        return CLI::detail::find_and_replace(CLI::Formatter::make_help(app, name, mode), "\n\n\n", "\n\n");
    }
    std::string make_option_opts(const CLI::Option* option) const override {
        if (option->get_type_size() == 0) return {};  // a flag
        const std::string type = option->get_type_name();
        const std::string preset = option->get_default_str();
        return fmt::format(" {}{}{}", get_label(type.substr(0, type.find(':'))), preset.empty() ? "" : "=", preset);
    }
};

/// --max-clients exists only if options.about.max_clients has a value.
void add_common(CLI::App& app, Options& options) {
    CLI::OptionDefaults* const defaults = app.option_defaults();
    const auto not_empty = [](const std::string& text) { return !text.empty(); };
    defaults->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->always_capture_default();

    defaults->group("Network");
    app.add_option("-p,--port", options.port, "TCP port; 0 takes any free one,\nand the ready line names it")
        ->transform(whole_number(0, 65535));
    app.add_option("--host", options.host, "where to listen, IPv4 or IPv6;\nIPv4 if the name has both")
        ->type_name("ADDRESS")
        ->check(wanting("a name or address", not_empty));
    app.add_option("--allow-host", options.allowed_hosts,
                   "one more name that HTTP's Host may have\n(can be given again; *: any)")
        ->type_name("NAME")
        ->check(wanting("a name", not_empty))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false)
        ->default_str("");
    const auto set_framing = [&](const std::string& word) {
        options.framing = word == "recv" ? Framing::recv : Framing::line;
    };
    app.add_option_function<std::string>("--framing", set_framing,
                                         "line: a request ends with its line;\n"
                                         "recv: each chunk that recv(2) returns is one,\nand there is no HTTP")
        ->check(one_of({"line", "recv"}))
        ->default_str("line");

    defaults->group("Limits");
    add_seconds(app, "--idle-timeout", options.idle_timeout,
                "until a client that neither completes a request\nnor takes a reply is dropped; 0: never");
    if (options.about.max_clients)
        app.add_option("--max-clients", options.max_clients,
                       "clients served at once, by each worker if there\nare any; one more is told that the server is full")
            ->transform(whole_number(1, 1'000'000));
    app.add_option("--max-fib", options.max_fib, fmt::format("the largest n that fib accepts, at most {}", fib_limit))
        ->transform(whole_number(1, fib_limit));

    defaults->group("Storage");
    app.add_option("--db", options.db, "the file that keeps the tasks;\n:memory: keeps them in this process only")
        ->type_name("FILE")
        ->check(wanting("a file's name", not_empty));

    defaults->group("General");
    app.add_option("--pid-file", options.pid_file, "written when ready, locked while the server lives,\nremoved at the end")
        ->type_name("FILE")
        ->check(wanting("a file's name", not_empty));
    auto* verbose = app.add_flag("-v,--verbose", options.verbose, "a line per request on standard error");
    app.add_flag("-q,--quiet", options.quiet, "nothing but errors on standard error")->excludes(verbose);
    app.set_version_flag("--version", fmt::format("{} {}", options.about.name, version));
    app.set_help_flag("-h,--help", "Print this help message and exit");

    defaults->group(of_stage);
}

// ---- Mistakes -----------------------------------------------------------------------------------------------------------

/// Whether one slip makes one word of the other: a letter that is missing, added or wrong, or two that are swapped.
bool one_slip(std::string_view a, std::string_view b) {
    const auto [from_a, from_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    const auto [to_a, to_b] =
        std::mismatch(a.rbegin(), std::make_reverse_iterator(from_a), b.rbegin(), std::make_reverse_iterator(from_b));
    const std::string_view in_a(from_a, to_a.base());
    const std::string_view in_b(from_b, to_b.base());
    const bool swapped = in_a.size() == 2 && std::equal(in_a.begin(), in_a.end(), in_b.rbegin(), in_b.rend());
    return swapped || std::max(in_a.size(), in_b.size()) <= 1;
}

/// Names the first argument that belongs to no option, and the options whose names it begins or misspells.
std::string unknown_option(const CLI::App& app) {
    std::string word = app.remaining().front();
    word.resize(std::min(word.find('=', 1), word.size()));
    std::string name = word;
    name.erase(0, name.find_first_not_of('-'));
    std::vector<std::string> similar;
    for (const CLI::Option* option : app.get_options()) {
        const std::string& known = option->get_single_name();
        if (!name.empty() && (known.starts_with(name) || one_slip(name, known))) similar.push_back("--" + known);
    }
    const std::string question =
        similar.empty() ? "" : fmt::format("; did you mean {}?", CLI::detail::join(similar, " or "));
    return fmt::format("there is no option {}{}", printable(word), question);
}

/// CLI11's error begins with the option's name and a colon.
std::string value_is_missing(const CLI::App& app, const std::string& error) {
    const std::string name = error.substr(0, error.find(':'));
    const std::string type = app.get_option(name)->get_type_name();
    return fmt::format("{} wants {}", name, type.substr(type.find(':') + 1));
}

bool is_given(const CLI::Option* option) { return option->count() > 0; }

}  // namespace

Options parse_options(int argc, char** argv, const About& about, const std::function<void(CLI::App&)>& add_own) {
    occupy_standard_descriptors();
    Options options{.about = about, .max_clients = about.max_clients.value_or(1)};
    CLI::App app{fmt::format("A fib and ToDo server over plain sockets:\n{}.", about.technique), about.name};
    app.formatter(std::make_shared<Help>());
    add_common(app, options);
    if (add_own) add_own(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked_for_help) {
        std::exit(app.exit(asked_for_help));
    } catch (const CLI::ExtrasError&) {
        wrong_usage(about, unknown_option(app));
    } catch (const CLI::ArgumentMismatch& error) {
        wrong_usage(about, value_is_missing(app, error.what()));
    } catch (const CLI::ValidationError& error) {
        std::string text = error.what();  // "--port: wants …"
        wrong_usage(about, text.erase(text.find(':'), 1));
    } catch (const CLI::ParseError& error) {
        wrong_usage(about, printable(error.what()));
    }
    for (const CLI::Option* own :
         app.get_options([](const CLI::Option* option) { return option->get_group() == of_stage; })) {
        const auto value = own->as<std::string>();
        const auto needs = own->get_needs();
        const bool meaningless = value.empty() || !std::all_of(needs.begin(), needs.end(), is_given);
        if (!meaningless) options.of_stage.emplace_back(own->get_single_name(), value);
        if (is_given(own) && own->get_excludes().contains(app.get_option_no_throw("--max-clients")))
            options.about.max_clients.reset();
    }
    options.command_line = {argv[0], argv[argc - 1] + std::strlen(argv[argc - 1])};  // the strings lie one after another
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
        in_force[key] = value;
        if (nlohmann::json::accept(value)) in_force[key] = nlohmann::ordered_json::parse(value);  // a number
    }
    const nlohmann::ordered_json server = {
        {"server", options.about.name}, {"technique", options.about.technique}, {"options", std::move(in_force)}};
    // A command line need not be UTF-8, but JSON must be.
    std::string text = server.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    text.pop_back();
    return text;
}
