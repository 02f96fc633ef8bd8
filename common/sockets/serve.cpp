#include "sockets/serve.hpp"

#include <poll.h>
#include <sys/time.h>

#include <cerrno>

bool accepted(const Fd& client, const Listener& listener) {
    switch (accepted(client)) {
        case Accepted::client: return true;
        case Accepted::nobody: {
            // Several workers may wait here for one client. Only one of them gets it.
            pollfd waited_for{.fd = listener.readiness(), .events = POLLIN, .revents = 0};
            if (poll(&waited_for, 1, -1) < 0 && errno != EINTR) break;  // the kernel had no memory for it
            return false;
        }
        case Accepted::stopped:
            if (stop::leaving()) return false;
            break;
        case Accepted::shortage: break;
    }
    // The client stays in the accept queue. No event reports a free descriptor, so try again after a pause.
    std::this_thread::sleep_for(shortage_pause);
    return false;
}

namespace {

/// Zero means for ever. Anything else is rounded up, so that it does not become zero.
void set_timeout(int fd, int option, std::chrono::nanoseconds timeout) noexcept {
    const auto us = (timeout.count() + 999) / 1000;
    const timeval limit{.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000};
    setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit);
}

}  // namespace

IdleTimer::IdleTimer(int fd, std::chrono::nanoseconds idle) : fd_(fd), allowance_(idle, Clock::now()), set_(idle) {
    set_timeout(fd, SO_SNDTIMEO, idle);
    set_timeout(fd, SO_RCVTIMEO, idle);
}

bool IdleTimer::before_recv(const Session& session) {
    const TimePoint now = Clock::now();
    const TimePoint ends = allowance_.ends(session, now);
    if (ends == TimePoint::max()) return true;
    const std::chrono::nanoseconds left = ends - now;
    if (left <= left.zero()) return false;
    // A time-out that is at most an eighth too long stays as it is, which saves a system call.
    if (left > set_ || left < set_ - set_ / 8) set_timeout(fd_, SO_RCVTIMEO, set_ = left);
    return true;
}
