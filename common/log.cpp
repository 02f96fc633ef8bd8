#include "log.hpp"

#include <fmt/chrono.h>
#include <unistd.h>

#include <ctime>

#include "text.hpp"

namespace logging {

namespace {
Level level_in_force = Level::normal;
}

void set_level(Level level) noexcept { level_in_force = level; }
bool verbose() noexcept { return level_in_force == Level::verbose; }
bool normal() noexcept { return level_in_force != Level::quiet; }

void write(std::string_view level, std::string_view text) {
    const std::string line =
        fmt::format("[{:%Y-%m-%d %H:%M:%S %z}] [{}] [{}] {}\n", fmt::localtime(std::time(nullptr)), getpid(), level, text);
    // Nothing sensible could be done where the log itself can't be written.
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

namespace {

std::string excerpt(std::string_view text, std::size_t longest) {
    return printable(text.substr(0, longest)) + (text.size() > longest ? "..." : "");
}

}  // namespace

void Requests::begins(std::string_view request, std::string_view forwarded) {
    request_ = excerpt(request, 200);
    forwarded_ = excerpt(forwarded, 100);
    began_ = std::chrono::steady_clock::now();
}

void Requests::ended(int status) {
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began_;
    info("{} {} ({}{}{}) {:.2f}ms", status, request_, forwarded_, forwarded_.empty() ? "" : " via ", peer_, took.count());
}

}  // namespace logging
