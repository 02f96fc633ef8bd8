/// Stopping is everybody hanging up.
///
/// At SIGINT or SIGTERM the signal handler calls shutdown(fd, SHUT_RD) on the listening socket and on every client being
/// served. shutdown(2) may be called in a signal handler (signal-safety(7)), and it sticks: a thread that is blocked in
/// accept(2) or recv(2) wakes up, one that is about to call them returns at once, and poll(2) and epoll(7) report the
/// socket. So there is no flag to be looked at in time and no race with a call about to block, and one mechanism serves
/// six techniques: each conversation reads its end, answers what is complete (Session::stop()) and closes.
///
/// What still runs after ten seconds, or at a second signal, is cut off: exit status 1. A second one within 50 ms is the
/// first one's echo: timeout(1) signals its child and then its child's group.
#pragma once

#include <string>

namespace stop {

/// Installs the handlers of SIGINT, SIGTERM and (unless nohup(1) made it ignored) SIGHUP, and ignores SIGPIPE. Once,
/// before the first client. `program` and `pid_file` (empty: none) are what is said and removed where all is cut off.
void on_signals(const std::string& program, const std::string& pid_file, int listener);

/// In a parent, which has children to end before itself: where all would be cut off, insisted() becomes true, and no more.
void in_parent() noexcept;
bool insisted() noexcept;

/// In a child, right after fork(2): from now on only SIGTERM stops, which the parent sends, since the terminal's signals
/// reach parent and children alike; the parent's death does, too. The listener is the parent's to shut down: that would
/// refuse clients for all who share it.
void in_child(pid_t parent);

/// Whether a stop was asked for. Any thread.
bool requested() noexcept;
/// The name of the signal that asked, for the log: "int", "term".
const char* signal_name() noexcept;

/// Ends the process at once, with one line to say so. Safe in a signal handler.
[[noreturn]] void cut_off() noexcept;

/// A client being served: while this lives, a stop shuts its receiving side down. If the stop came first, that happens at
/// once (accepted, but not yet known to the handler).
class Served {
   public:
    explicit Served(int fd) noexcept;
    Served(Served&& other) noexcept;
    Served& operator=(Served&&) = delete;
    ~Served();

   private:
    int fd_;
};

}  // namespace stop
