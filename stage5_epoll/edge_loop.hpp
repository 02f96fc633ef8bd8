/// The same loop, edge-triggered.
#pragma once

#include "epoll_loop.hpp"

/// EPOLLET (epoll(7)): epoll reports a socket once, when it becomes readable or writable, and does not report what is left
/// over. So the loop must read or write until the call would block (EAGAIN), or remember the socket. In return, epoll is
/// told what to report (everything) when the client comes, and after that only before a sleep.
class EdgeLoop final : public EpollLoop {
   public:
    using EpollLoop::EpollLoop;

   private:
    static constexpr std::uint32_t every_edge = EPOLLIN | EPOLLOUT | EPOLLET;

    void begin_to_watch(Conversation& c) override { control(EPOLL_CTL_ADD, c.client.fd.get(), &c, every_edge); }

    /// epoll may have reported a reset before the sleep. EPOLL_CTL_MOD makes it report the reset again.
    void watch(Conversation& c, std::uint32_t /*events*/) override {
        if (c.asleep) control(EPOLL_CTL_MOD, c.client.fd.get(), &c, every_edge);
    }

    /// There may be more to read, and epoll will not say so again. So the client has more turns, until recv(2) would block
    /// or, as park() finds out, its time is up.
    void has_read(Conversation& c) override {
        park(c, EPOLLIN);
        next_round(c);
    }
};
