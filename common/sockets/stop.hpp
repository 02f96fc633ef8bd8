/// A stop looks to the server as if every client hung up.
///
/// At SIGINT or SIGTERM the signal handler calls shutdown(fd, SHUT_RD) on the listening socket and on every client being
/// served. shutdown(2) is safe in a signal handler (signal-safety(7)), and its effect lasts: a thread that is blocked in
/// accept(2) or recv(2) wakes up, one that is about to call them returns at once, and poll(2) and epoll(7) report the
/// socket. So nothing has to check a flag in time, and a call that is about to block cannot miss the stop. One mechanism
/// serves every technique: each conversation reads the end, answers what is complete (Session::stop()) and closes.
///
/// What still runs after ten seconds, or at a second signal, is cut off: exit status 1. A second signal within 50 ms is
/// taken as an echo of the first: timeout(1) signals its child and then its child's group.
///
/// SIGUSR1 retires a worker of a master (master.hpp): the worker accepts no more clients and hangs up on those that it has
/// answered before. It serves each other client until its first request is answered, because that may be on its way.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// Every descriptor is lower than this, because start.hpp limits their number.
inline constexpr int descriptor_limit = 1 << 20;

namespace stop {

/// Installs the handlers of SIGINT, SIGTERM, SIGALRM (the alarm(2) that limits a stop) and, unless nohup(1) made it ignored,
/// SIGHUP. Once, before the first client. `program` is the name in the line that cut_off() writes. After that cut_off()
/// calls `last`, perhaps in a signal handler.
///
/// Unless in_parent() was called before, this also unblocks all signals, because a process inherits those that its starter
/// had blocked (execve(2)). It also ignores SIGCHLD, so that the kernel reaps children that the process did not fork: the
/// program before exec(3) left them or, in process 1 of a container, their parents have died (wait(2)).
void on_signals(const std::string& program, void (*last)() noexcept);
/// What the handlers do. For a process that takes its signals with sigwaitinfo(2).
void take(int signal);

/// In a parent: from now on a second signal does not cut it off at once, because end() must end its children first.
void in_parent() noexcept;
/// A child that has ended stays in the process table (a zombie) until its parent asks for its status. This takes each such
/// child out of `children` and calls `ended`, if there is one. Children that the process did not fork (exec(3) keeps them)
/// are not reported. Does not wait. waitpid(2).
void reap(std::vector<pid_t>& children, const std::function<void(pid_t child, int status)>& ended = {});
/// The parent's end, when a stop was requested: sends SIGTERM to its children and waits for them until they have ended, the
/// stop's ten seconds are over, or a second SIGINT or SIGTERM comes. `signals` must all be blocked, and contain at least
/// SIGCHLD and those of on_signals(). Calls `ended` as reap() does. Returns the exit status 0 if every child ended with 0.
/// Otherwise kills those that are left and calls cut_off().
int end(std::vector<pid_t> children, const sigset_t& signals,
        const std::function<void(pid_t child, int status)>& ended = {});

/// In a child, right after fork(2): it ignores the terminal's signals, because they reach parent and children alike. What
/// stops it is SIGTERM, which the parent sends, or the kernel when the parent dies. A child does not shut listeners down
/// while its parent lives, because that would refuse the clients of all processes that share them.
void in_child(pid_t parent);
/// The same in a child that accepts clients itself. SIGUSR1 retires it.
void in_worker(pid_t master);
inline constexpr int retire_signal = SIGUSR1;
/// How long a stop may take.
inline constexpr unsigned grace_seconds = 10;

/// Whether a stop was requested. Any thread.
bool requested() noexcept;
/// Whether no more clients are to be accepted: the process is stopping or retired.
bool leaving() noexcept;
/// The name of the signal that requested it, for the log: "int", "term" or "hup".
const char* signal_name() noexcept;

/// Writes one line that something was cut off, calls `last` of on_signals(), and ends the process at once with status 1.
/// Safe in a signal handler.
[[noreturn]] void cut_off() noexcept;

/// A client being served, or a listener: while this object lives, a stop shuts its receiving side down. If the stop came
/// first, when the handler did not know the socket yet, the constructor does it.
class Registration {
   public:
    enum class As : bool { client, listener };
    explicit Registration(int fd, As as = As::client) noexcept;
    Registration(Registration&& other) noexcept;
    Registration& operator=(Registration&&) = delete;
    ~Registration() { end(); }

    /// To be called before the descriptor is closed.
    void end() noexcept;

   private:
    int fd_;
};

/// Notes that this client has had an answer, so that a retired worker does not wait for its next request.
void answered(int fd) noexcept;
/// To be called when a client has been told everything, before its sending side is shut down: from now on a stop leaves it
/// alone. With both sides shut down, the client's next byte would reset the connection, and the client would lose what has
/// not reached it yet. False if a stop came first: then its sending side must stay open.
bool parting(int fd) noexcept;
/// Whether the server itself ends this client's input: at a stop every client's, in a retired worker that of a client that
/// was answered. Then the end of input does not come from the client.
bool hung_up(int fd) noexcept;

}  // namespace stop
