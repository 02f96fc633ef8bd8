#include "base/log.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <iterator>

#include "base/text.hpp"

namespace logging {

namespace {

Level level_in_force = Level::normal;
std::atomic<std::uint64_t> dropped{0};

int standard_error = STDERR_FILENO;

/// How long, in milliseconds, a line waits for a terminal. While another process writes to it, it takes no other line
/// (drivers/tty/tty_io.c: tty_write_lock), and its poll(2) says so.
int patience = 0;
std::atomic<bool> held{false};  // it refused the last line, perhaps for Ctrl-S: the next one does not wait

}  // namespace

void begin() noexcept {
    struct stat file {};
    fstat(STDERR_FILENO, &file);
    if (!S_ISFIFO(file.st_mode) && !S_ISCHR(file.st_mode))
        return;  // a file never blocks, and two open file descriptions would overwrite each other's lines
    const int ours = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (ours >= 0) standard_error = ours;
    if (S_ISCHR(file.st_mode)) patience = 100;
}

bool put(std::string_view line) noexcept {
    // If begin() could not open it again (it is a socket, or another user's), poll(2) tells whether there is room. A pipe is
    // ready if PIPE_BUF bytes (4,096) fit, and a line of the log is shorter.
    pollfd room{.fd = standard_error, .events = POLLOUT, .revents = 0};
    bool taken = false;
    while (!taken) {
        const int ready = poll(&room, 1, held ? 0 : patience);
        if (ready > 0) taken = ::write(standard_error, line.data(), line.size()) >= 0;
        if (ready == 0 || (!taken && errno != EAGAIN && errno != EINTR)) break;
    }
    held = !taken;
    return taken;
}

void in_child() noexcept {
    if (dropped > 0) dropped = 0;  // to write it always would cost each child a page
}
void set_level(Level level) noexcept { level_in_force = level; }
bool verbose() noexcept { return level_in_force == Level::verbose; }
bool normal() noexcept { return level_in_force != Level::quiet; }

void write(std::string_view level, fmt::string_view format, fmt::format_args values) noexcept {
    try {
        fmt::memory_buffer line;  // a short line stays on the stack
        const auto end = std::back_inserter(line);
        const auto begin = [&](std::string_view its_level) {
            fmt::format_to(end, "[{:%Y-%m-%d %H:%M:%S %z}] [{}] [{}] ", fmt::localtime(std::time(nullptr)), getpid(),
                           its_level);
        };
        const std::uint64_t untold = dropped.exchange(0);
        if (untold > 0) {
            begin("WARNING");
            fmt::format_to(end, "Lines dropped before this one, because standard error did not take them: {}\n", untold);
        }
        begin(level);
        fmt::vformat_to(end, format, values);
        line.push_back('\n');
        if (!put({line.data(), line.size()})) dropped += untold + 1;
    } catch (const std::exception&) {
        // Nothing sensible can be done if the log itself cannot be written.
    }
}

const char* reason(const std::exception& error) noexcept {
    return dynamic_cast<const std::bad_alloc*>(&error) ? "no memory is left" : error.what();
}

void trouble(std::string_view what, const char* why) noexcept {
    static std::atomic<std::time_t> told_at{0};
    static std::atomic<std::uint64_t> untold{0};
    const std::time_t now = std::time(nullptr);
    if (told_at.exchange(now) == now)
        ++untold;
    else if (const std::uint64_t others = untold.exchange(0); others == 0)
        error("{}: {}", what, why);
    else
        error("{}: {} (and {} more before)", what, why, others);
}

namespace {

/// ASCII only, as in nginx's log. Besides control characters, Unicode has others that are invisible or change how the rest
/// of a line looks (direction overrides, line separators).
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
