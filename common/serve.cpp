#include "serve.hpp"

#include <poll.h>
#include <sys/time.h>

#include <cerrno>
#include <utility>

#include "limits.hpp"

std::optional<Client> next_client(const Listener& listener) {
    for (;;) {
        Arrival arrival = accept_client(listener, Mode::blocking);
        switch (arrival.outcome) {
            case Accepted::client: return Client(std::move(arrival.fd), std::move(arrival.peer));
            case Accepted::nobody: {
                // Several workers may wait here for one client, and one of them gets it.
                pollfd waited_for{.fd = listener.readiness(), .events = POLLIN, .revents = 0};
                if (poll(&waited_for, 1, -1) >= 0 || errno == EINTR) break;
                [[fallthrough]];  // the kernel had no memory for it
            }
            // The client stays in the kernel's queue. Nothing tells when a descriptor is free again, so we look now and
            // then.
            case Accepted::shortage: std::this_thread::sleep_for(shortage_pause); break;
            case Accepted::stopped: return {};
        }
    }
}

namespace {

/// Zero means for ever; anything else is rounded up, lest it become that.
void set_timeout(int fd, int option, std::chrono::nanoseconds timeout) noexcept {
    const auto us = (timeout.count() + 999) / 1000;
    const timeval limit{.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000};
    setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit);
}

}  // namespace

Patience::Patience(int fd, std::chrono::nanoseconds idle) : fd_(fd), idle_(idle), set_(idle) {
    set_timeout(fd, SO_SNDTIMEO, idle);
    set_timeout(fd, SO_RCVTIMEO, idle);
    renew();
}

void Patience::renew() {
    if (idle_ > idle_.zero()) ends_ = Clock::now() + idle_;
    fresh_ = true;
}

bool Patience::before_recv(const Session& session) {
    if (session.said_all() && !farewell_) {
        farewell_ = true;
        fresh_ = false;
        ends_ = Clock::now() + farewell_limit;
    }
    // What has come since without completing a request, empty lines too, buys no time.
    const bool whole = std::exchange(fresh_, false) || ends_ == Clock::time_point::max();
    const auto left = whole ? idle_ : ends_ - Clock::now();
    if (!whole && left <= left.zero()) return false;
    if (left != set_) set_timeout(fd_, SO_RCVTIMEO, left);  // mostly it stands already: no call per request
    set_ = left;
    return true;
}
