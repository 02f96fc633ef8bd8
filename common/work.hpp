/// Work is data: what a request asks for, told apart by what it makes a server wait for.
///
/// The protocols say what is to be done; the stage decides who does it, and who waits meanwhile. That split is the whole
/// lesson, so nothing in common/ carries work out by itself (but see serve.hpp, for the stages that simply wait).
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

class Tasks;

/// The kernel's numbers for the calling thread (gettid(2)) and its process (getpid(2)). Remembered: a system call per reply
/// would cost more than the rest of a small one. Right after fork(2), too.
pid_t this_thread() noexcept;
pid_t this_process() noexcept;

/// The answer to one request, in either protocol.
struct Reply {
    int status = 200;              ///< as HTTP numbers them; the line protocol logs it and sends only the body
    std::string body;              ///< a line reply's text without its last LF, or an HTTP body
    const char* type = nullptr;    ///< HTTP: the media type of the body; none where there is no body
    std::string field;             ///< HTTP: one more header field, as in `Allow: GET, HEAD`, or empty
    bool hang_up = false;          ///< nothing more is answered on this connection
    bool counted = true;           ///< false for the request that asks for the count
    pid_t thread = this_thread();  ///< who made this reply: in stage 6 it may be one of the pool
};

/// Waiting: it stands for any request that spends its time on something outside, as a slow disk or another service.
struct Wait {
    std::chrono::nanoseconds duration;
    Reply reply;  ///< to be given after that
};

/// Computing: a processor is busy for as long as fib(n) takes. Pure: may run in any thread.
struct Compute {
    int n;
    Reply (*say)(int n, std::uint64_t value);
};

/// The tasks, or the count: what the clients share. Who lets two of them at it at once needs a lock.
struct Store {
    bool writes;  ///< may wait for the disk or for another writer; else it reads, which takes microseconds
    std::function<Reply(Tasks& tasks, std::uint64_t answered)> run;  ///< throws nothing: errors are replies
};

/// What a request comes to: known already, or one of three kinds of work.
using Work = std::variant<Reply, Wait, Compute, Store>;

/// For std::visit with a lambda for each kind.
template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;
