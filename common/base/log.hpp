/// The log: one line per event on standard error, in the shape that gunicorn's users know.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <string>
#include <string_view>

/// `[2026-11-21 23:19:04 +0000] [4244] [INFO] text`, written with one write(2), so that the lines of several threads
/// and processes do not mix. Any thread may call these. Writing never throws, because the log is needed most when memory
/// is short. It waits for no reader (a terminal has 0.1 s, once), because perhaps nobody reads standard error. Make a
/// client's text printable first (text.hpp).
namespace logging {

enum class Level { quiet, normal, verbose };

/// Call once, at the start: opens standard error a second time if it is a pipe or a terminal, so that only this process gets
/// O_NONBLOCK. The flag belongs to the open file description (open(2)), which standard error shares with the shell.
void begin() noexcept;
/// Call once, at the start.
void set_level(Level level) noexcept;
/// Call right after fork(2): forgets the lines that the parent dropped, because the parent reports them.
void in_child() noexcept;
/// Whether each request gets a line, see Requests.
bool verbose() noexcept;

/// Drops a line that standard error does not take. Before the next line it writes how many were dropped.
void write(std::string_view level, fmt::string_view format, fmt::format_args values) noexcept;

/// Writes `line` to standard error as it is. False if that would wait for a reader, or fails. Safe in a signal handler.
bool put(std::string_view line) noexcept;

/// Whether info() writes: at every level but quiet.
bool normal() noexcept;
template <class... T>
void info(fmt::format_string<T...> format, T&&... values) {
    if (normal()) write("INFO", format, fmt::make_format_args(values...));
}

/// At every level.
template <class... T>
void error(fmt::format_string<T...> format, T&&... values) {
    write("ERROR", format, fmt::make_format_args(values...));
}
template <class... T>
void critical(fmt::format_string<T...> format, T&&... values) {
    write("CRITICAL", format, fmt::make_format_args(values...));
}
/// For an error that may come thousands of times at once, such as a shortage: logs `what: why`, but at most one such line
/// a second, whatever it is about. The next one says how many were left out.
void trouble(std::string_view what, const char* why) noexcept;
/// The exception's what(). std::bad_alloc has only its name there, so it gets plain words.
const char* reason(const std::exception& error) noexcept;
/// One session cannot go on, mostly because memory is short. The others do.
inline void given_up(const std::exception& why) noexcept { trouble("A client was dropped", reason(why)); }

/// With --verbose, a line per request, as Tornado's users know it:
/// `200 GET /say/hello?name=alice (127.0.0.1) 1005.81ms`. If a proxy names its client: (203.0.113.7 via 127.0.0.1), which is
/// as trustworthy as the proxy. One object per connection, and only if verbose(). The time runs from begins() to ended().
class Requests {
   public:
    explicit Requests(std::string peer) : peer_(std::move(peer)) {}
    /// `forwarded` is the value of X-Forwarded-For. Shortens both texts and makes them printable. Throws std::bad_alloc.
    void begins(std::string_view request, std::string_view forwarded = {});
    void ended(int status);

   private:
    std::string peer_;
    std::string request_;
    std::string forwarded_;
    std::chrono::steady_clock::time_point began_;
};

}  // namespace logging
