/// The command line that all six servers understand.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

/// How the bytes of a stream become requests of the line protocol.
enum class Framing : std::uint8_t {
    line,  ///< a request ends with its line
    recv   ///< each chunk that recv(2) returns is taken for a request: wrong, and worth seeing
};

/// What a stage says about itself.
struct About {
    std::string name;       ///< the program's name: stage3_threads
    std::string technique;  ///< in a few words, for --help and GET /server
    /// How many clients it serves at once unless told otherwise; none: a fixed number, and no such option.
    std::optional<int> max_clients;
};

/// An option of one stage alone. Its value goes to a variable of the stage's, whose value before is the default.
struct StageOption {
    struct WholeNumber {
        int& value;  ///< out of the range before: there is no default, and it is left out of GET /server
        int lowest;
        int highest;
    };
    struct Seconds {
        std::chrono::nanoseconds& value;
    };
    struct OneOf {
        std::string& value;
        std::vector<std::string> words;
    };

    std::string names;  ///< "-w,--workers"
    std::string help;
    std::variant<WholeNumber, Seconds, OneOf> kind;
    std::string needs = {};      ///< another option without which this one means nothing
    bool fixes_clients = false;  ///< with it the number of clients served at once is fixed: no --max-clients
};

/// The options in force.
struct Options {
    About about;
    int port = 9999;
    std::string host = "127.0.0.1";
    std::string db = "tasks.db";
    std::chrono::nanoseconds idle_timeout = std::chrono::minutes(5);  ///< zero: never
    int max_clients = 1;
    int max_fib = 50;
    Framing framing = Framing::line;
    std::vector<std::string> allowed_hosts;
    std::string pid_file;
    bool verbose = false;
    bool quiet = false;
    std::span<char> command_line;                               ///< its place in memory, see name_process() in master.cpp
    std::vector<std::pair<std::string, std::string>> of_stage;  ///< those of this stage alone: name, value as JSON
};

/// Reads the command line. Where there is nothing to be served (--help, --version: status 0; an error, told on standard
/// error: status 2), it ends the process.
Options parse_options(int argc, char** argv, About about, const std::vector<StageOption>& of_stage = {});
/// For what only the stage knows to be wrong: says so on standard error and ends the process, status 2.
[[noreturn]] void wrong_usage(const About& about, const std::string& what);

/// The stage, its technique and the options in force: a JSON object without its closing brace, so that the count, which
/// alone changes, can be put behind it.
std::string describe(const Options& options);
