/// Stopping is everybody hanging up.
///
/// At SIGINT or SIGTERM the signal handler calls shutdown(fd, SHUT_RD) on the listening socket and on every client being
/// served. shutdown(2) may be called in a signal handler (signal-safety(7)), and it sticks: a thread that is blocked in
/// accept(2) or recv(2) wakes up, one that is about to call them returns at once, and poll(2) and epoll(7) report the
/// socket. So there is no flag to be looked at in time and no race with a call about to block, and one mechanism serves
/// every technique: each conversation reads its end, answers what is complete (Session::stop()) and closes.
///
/// What still runs after ten seconds, or at a second signal, is cut off: exit status 1. A second one within 50 ms is the
/// first one's echo: timeout(1) signals its child and then its child's group.
///
/// A worker of a master (master.hpp) can also be retired, by SIGUSR1: it accepts nobody any more, hangs up on whom it has
/// answered before, and serves each of the others until their first request is answered, for that may be on its way.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace stop {

/// Installs the handlers of SIGINT, SIGTERM and, unless nohup(1) made it ignored, SIGHUP. Once, before the first client.
/// `program` and `pid_file` (empty: none) are what is said and removed where all is cut off.
void on_signals(const std::string& program, const std::string& pid_file);
/// What the handlers do, for a process that takes its signals when it likes (sigwaitinfo(2)).
void take(int signal);

/// In a parent, which has children to end before itself: it is not cut off where it stands, but does so in end().
void in_parent() noexcept;
/// A child that has ended stays in the process table (a zombie) until its parent asks how it did: takes those out of the
/// list and, if there is somebody to be told, tells the status. Children of others that this process was born with (exec(3)
/// keeps them) are of no concern. Does not wait. waitpid(2).
void reap(std::vector<pid_t>& children, const std::function<void(pid_t child, int status)>& ended = {});
/// The parent's end: passes the stop on to its children, and waits for them, for ten seconds or until it is asked again.
/// `signals`, all of them blocked, has at least SIGCHLD and those of on_signals(). Tells as reap() does how each of them
/// did, and returns the exit status.
int end(std::vector<pid_t> children, const sigset_t& signals,
        const std::function<void(pid_t child, int status)>& ended = {});

/// In a child, right after fork(2): from now on only SIGTERM stops, which the parent sends, since the terminal's signals
/// reach parent and children alike; the parent's death does, too. Listeners are the parent's to shut down, since that would
/// refuse clients for all who share them; unless it is dead.
void in_child(pid_t parent);
/// In a child that accepts clients by itself; SIGUSR1 retires it. Throws std::system_error.
void in_worker(pid_t master);
inline constexpr int retire_signal = SIGUSR1;
/// So long a stop may take.
inline constexpr unsigned grace_seconds = 10;
/// In a worker: a descriptor that can be read once no client is to be accepted any more. It stands for the listener, whose
/// shutdown would have said so. -1 elsewhere.
int bell() noexcept;

/// Whether a stop was asked for. Any thread.
bool requested() noexcept;
/// Whether no client is to be accepted any more: stopping, or retired.
bool leaving() noexcept;
/// The name of the signal that asked, for the log: "int", "term".
const char* signal_name() noexcept;

/// Ends the process at once, with one line to say so. Safe in a signal handler.
[[noreturn]] void cut_off() noexcept;

/// A client being served, or a listener: while this lives, a stop shuts its receiving side down. If the stop came first,
/// that happens at once (accepted, but not yet known to the handler).
class Served {
   public:
    enum class As : bool { client, listener };
    explicit Served(int fd, As as = As::client) noexcept;
    Served(Served&& other) noexcept;
    Served& operator=(Served&&) = delete;
    ~Served() { end(); }

    /// Before the descriptor is closed.
    void end() noexcept;

   private:
    int fd_;
};

/// Of a client being served: a request has been answered, so that a retired worker need not wait for another.
void answered(int fd) noexcept;
/// Whether this client's receiving side was shut down here: its end is ours, and not the client's.
bool hung_up(int fd) noexcept;

}  // namespace stop
