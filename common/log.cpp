#include "log.hpp"

#include <fmt/chrono.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <iterator>

#include "text.hpp"

namespace logging {

namespace {
Level level_in_force = Level::normal;
}

void set_level(Level level) noexcept { level_in_force = level; }
bool verbose() noexcept { return level_in_force == Level::verbose; }
bool normal() noexcept { return level_in_force != Level::quiet; }

void write(std::string_view level, fmt::string_view format, fmt::format_args values) noexcept {
    try {
        fmt::memory_buffer line;  // a short one needs no memory but the stack's
        const auto end = std::back_inserter(line);
        fmt::format_to(end, "[{:%Y-%m-%d %H:%M:%S %z}] [{}] [{}] ", fmt::localtime(std::time(nullptr)), getpid(), level);
        fmt::vformat_to(end, format, values);
        line.push_back('\n');
        static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
    } catch (const std::exception&) {
        // Nothing sensible could be done where the log itself can't be written.
    }
}

void trouble(std::string_view what, const char* why) noexcept {
    static std::atomic<std::time_t> told_at{0};
    static std::atomic<int> untold{0};
    const std::time_t now = std::time(nullptr);
    if (told_at.exchange(now) == now)
        ++untold;
    else if (const int others = untold.exchange(0); others == 0)
        error("{}: {}", what, why);
    else
        error("{}: {} (and {} more before)", what, why, others);
}

namespace {

/// ASCII alone, as in nginx's log: Unicode has more that is not seen, or that changes how the rest of a line is seen
/// (overrides of direction, separators of lines), than its control characters.
std::string excerpt(std::string_view text, std::size_t longest) {
    std::string shown;
    for (const char c : printable(text.substr(0, longest))) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80)
            shown += c;
        else
            shown += fmt::format("\\x{:02x}", byte);
    }
    return shown + (text.size() > longest ? "..." : "");
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
