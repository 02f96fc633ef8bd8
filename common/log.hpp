/// The log: one line per event on standard error, in the shape that gunicorn's users know.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <string>
#include <string_view>

/// `[2026-11-21 23:19:04 +0000] [4244] [INFO] text`, written with one write(2), so that the lines of several threads
/// and processes do not mix. Any thread may call these. To write never throws: the log is wanted most where memory is
/// short. Text of clients is made printable first.
namespace logging {

enum class Level { quiet, normal, verbose };

/// Once, at the start.
void set_level(Level level) noexcept;
bool verbose() noexcept;

void write(std::string_view level, fmt::string_view format, fmt::format_args values) noexcept;

/// Unless quiet.
bool normal() noexcept;
template <class... T>
void info(fmt::format_string<T...> format, T&&... values) {
    if (normal()) write("INFO", format, fmt::make_format_args(values...));
}

/// Always.
template <class... T>
void error(fmt::format_string<T...> format, T&&... values) {
    write("ERROR", format, fmt::make_format_args(values...));
}
template <class... T>
void critical(fmt::format_string<T...> format, T&&... values) {
    write("CRITICAL", format, fmt::make_format_args(values...));
}
/// An error that may come thousands of times in a moment, as a shortage does: `what: why`, once a second at most, and how
/// often it was not told.
void trouble(std::string_view what, const char* why) noexcept;
/// One conversation can't go on, mostly for want of memory; the others do.
inline void given_up(const std::exception& why) noexcept { trouble("A client is given up", why.what()); }

/// With --verbose, a line per request, as Tornado's users know it:
/// `200 GET /say/hello?name=alice (127.0.0.1) 1005.81ms`, or (203.0.113.7 via 127.0.0.1) where a proxy said so, whose word
/// is as good as the proxy. One object per connection; the time runs from begins() to ended().
class Requests {
   public:
    explicit Requests(std::string peer) : peer_(std::move(peer)) {}
    void begins(std::string_view request, std::string_view forwarded = {});
    void ended(int status);

   private:
    std::string peer_;
    std::string request_;
    std::string forwarded_;
    std::chrono::steady_clock::time_point began_;
};

}  // namespace logging
