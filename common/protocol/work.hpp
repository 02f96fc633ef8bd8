/// Work is data: what a request asks for, divided by what it makes a server wait for.
///
/// The protocols say what is to be done; the stage decides who does it, and who waits meanwhile. That split is the whole
/// lesson. So common/ carries out no work but a small fib (fib.hpp), except in serve.hpp, for the stages that simply wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "base/thread_id.hpp"
#include "tasks/query.hpp"

/// The answer to one request, in either protocol.
struct Reply {
    int status = 200;      ///< as HTTP numbers them; the line protocol logs it and sends only the body
    std::string body;      ///< a line reply's text without its last LF, or an HTTP body
    std::string fields;    ///< HTTP: further header fields, each with its CR LF; if there is a Content-Type, it comes first
    bool hang_up = false;  ///< line protocol: nothing more is answered on this connection
    bool counted = true;   ///< whether the stage counts it; false for the line `count`
    pid_t thread = this_thread();  ///< the thread that made this reply; in stage 6 it may be one of the pool
};

/// The longest wait that a client may ask for.
inline constexpr std::chrono::seconds sleep_limit{60};

/// Waiting: it stands for any request that spends its time on something outside, such as a slow disk or another service.
struct Wait {
    std::chrono::nanoseconds duration;
    Reply reply;  ///< to be given after that
};

/// Computing: a processor is busy for as long as fib(n) takes. Pure: may run in any thread.
struct Compute {
    int n;
    Reply (*say)(int n, std::uint64_t value);
};

/// Counting: how many requests were answered is a number in memory. If two threads use it at once, they need a lock.
struct Count {
    std::function<Reply(std::uint64_t answered)> say;
};

struct Work;

/// Asking the database, which all clients share.
struct Store {
    Query query;
    std::function<Work(const Rows& rows)> then;        ///< what follows from the answer: a reply, or the next question
    Reply (*sorry)(int status, std::string_view why);  ///< the reply to an error

    /// What follows from the answer, also if that is an error. Any thread may call it.
    [[nodiscard]] Work answered(const Answer& answer) const;
};

/// What a request asks for: a reply known already, or one of four kinds of work. An assignment makes the new value first, so
/// the new value may be a part of the old one.
struct Work : std::variant<Reply, Wait, Compute, Count, Store> {
    using variant::variant;
};
