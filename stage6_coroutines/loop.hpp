/// The event loop: resumes coroutines when what they wait for has happened.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

#include "base/fd.hpp"
#include "co.hpp"
#include "sockets/deadlines.hpp"

class Socket;

/// For one thread, except wake(). Owns every spawned coroutine, and with it every coroutine that it awaits.
class Loop {
   public:
    Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    /// Queues a coroutine that no other awaits: run() starts it. An exception that ends it ends run(), too. Throws
    /// std::bad_alloc, and then has destroyed the coroutine.
    void spawn(Co co);
    /// Runs until all coroutines have ended. Throws std::system_error, and what has ended a spawned coroutine.
    void run();

    /// The time when this round began, or when look_at_clock() was last called in it.
    [[nodiscard]] TimePoint now() const noexcept { return now_; }
    void look_at_clock() noexcept { now_ = Clock::now(); }

    /// `co_await loop.turn()` goes on after every other coroutine that can go on now.
    struct Turn : std::suspend_always {
        void await_suspend(auto caller) noexcept { caller.promise().queue_up(); }
    };
    Turn turn() { return {}; }

    /// Says that a suspended coroutine can go on. Any thread may call this. The coroutine may be gone when it returns.
    void wake(Coroutine& co);

   private:
    friend class Socket;
    void woken();

    Fd epoll_;
    Fd event_;  // eventfd(2): other threads write to it, so that epoll_wait(2) returns
    Deadlines<Socket*> deadlines_;
    Queue ready_;
    std::mutex mutex_;  // guards woken_, which other threads fill
    Queue woken_;
    TimePoint now_ = Clock::now();
    std::list<Co> running_;  // last, so that the frames are destroyed before what they refer to
};

/// A descriptor that one coroutine at a time waits for. Does not own the descriptor, and must be destroyed before the
/// descriptor is closed. epoll watches it from the first wait on. Waiting throws std::system_error if the kernel has no
/// memory for that (epoll_ctl(2)).
class Socket {
   public:
    /// Where in the queue the coroutine is put when the socket is ready.
    enum class Place : bool { last, first };
    Socket(Loop& loop, int fd, Place place = Place::last);
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket();

    struct Awaiter {
        Socket& socket;
        std::uint32_t events;
        TimePoint ends;

        bool await_ready() noexcept { return false; }
        void await_suspend(auto caller) { socket.wait(caller.promise(), events, ends); }
        bool await_resume() noexcept { return socket.in_time_; }
    };

    /// `co_await socket.readable(ends)` waits until there is something to read, the client's end or an error included: true.
    /// Or until `ends`: false, even if something came in time but the loop was busy. So look again (Allowance::time_out()).
    Awaiter readable(TimePoint ends = TimePoint::max()) { return {*this, EPOLLIN, ends}; }
    Awaiter writable(TimePoint ends = TimePoint::max()) { return {*this, EPOLLOUT, ends}; }
    /// Waits until `ends`: false. If the connection is reset earlier: true.
    Awaiter reset(TimePoint ends) { return {*this, EPOLLERR, ends}; }

    /// Sets what to do if the connection is reset while no coroutine waits for the socket. An empty function: nothing.
    void at_reset(std::function<void()> call_off) noexcept { at_reset_ = std::move(call_off); }

   private:
    friend class Loop;
    void wait(Coroutine& caller, std::uint32_t events, TimePoint ends);
    void happened(std::uint32_t events);
    void due();
    void watch(std::uint32_t events);

    Loop& loop_;
    int fd_;
    Place place_;
    std::uint32_t interest_ = 0;  // what epoll was asked to report; 0: epoll does not know the descriptor
    Coroutine* caller_ = nullptr;
    TimePoint ends_ = TimePoint::max();
    Deadlines<Socket*>::Entry entry_;
    bool in_time_ = true;
    std::function<void()> at_reset_;
};
