/// The command line that all six servers understand.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
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
};

/// Reads the command line. Where there is nothing to be served (--help, --version: status 0; an error, told on standard
/// error: status 2), it ends the process.
Options parse_options(int argc, char** argv, About about);

/// The stage, its technique and the options in force: a JSON object without its closing brace, so that the count, which
/// alone changes, can be put behind it.
std::string describe(const Options& options);
