/// The command line that all six servers understand.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): it is the library's
class App;
class Option;
class Validator;
}  // namespace CLI

/// How the bytes of a stream become requests of the line protocol.
enum class Framing : std::uint8_t {
    line,  ///< a request ends with its line
    recv   ///< each chunk that recv(2) returns counts as a request, and there is no HTTP: wrong, and worth seeing
};

/// What a stage says about itself.
struct About {
    std::string name;       ///< the program's name: stage3_threads
    std::string technique;  ///< in a few words, for --help and GET /server
    /// The default of --max-clients. Empty: the stage serves a fixed number and has no such option.
    std::optional<int> max_clients;
};

/// The options in force.
struct Options {
    About about;
    int port = 9999;
    std::string host = "127.0.0.1";
    std::string db = "tasks.db";
    std::chrono::nanoseconds idle_timeout = std::chrono::minutes(5);  ///< zero: for ever
    int max_clients = 1;
    int max_fib = 50;
    Framing framing = Framing::line;
    std::vector<std::string> allowed_hosts;
    std::string pid_file;
    bool verbose = false;
    bool quiet = false;
    std::span<char> command_line;                               ///< its place in memory, see name_process() in master.cpp
    std::vector<std::pair<std::string, std::string>> of_stage;  ///< this stage's own options: name and value
};

/// Reads the command line. Call it before anything else opens a descriptor: it opens the standard ones that are missing.
/// `add_own` adds the stage's own options, with CLI11's calls and the functions below. An option that excludes
/// --max-clients fixes the number of clients: if it is given, about.max_clients loses its value. Ends the process after
/// --help or --version (status 0), and after an error, which it reports on standard error (status 2).
Options parse_options(int argc, char** argv, const About& about, const std::function<void(CLI::App&)>& add_own = {});
/// For CLI::Option::transform(): plain digits, from `lowest` to `highest`.
CLI::Validator whole_number(int lowest, int highest);
/// For CLI::Option::check().
CLI::Validator one_of(const std::vector<std::string>& words);
/// Adds an option in seconds, with or without a fraction, from 0 to 31 years. `value` has the default, and gets the result.
CLI::Option* add_seconds(CLI::App& app, const std::string& names, std::chrono::nanoseconds& value, const std::string& help);
/// For an error that only the stage can see: reports it on standard error and ends the process (status 2).
[[noreturn]] void wrong_usage(const About& about, const std::string& what);

/// The stage, its technique and the options in force: a JSON object without its closing brace, so that the caller can append
/// what changes (the process id and the count).
std::string describe(const Options& options);
