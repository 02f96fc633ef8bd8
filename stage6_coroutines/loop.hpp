/// The event loop: resumes coroutines when what they wait for has happened.
#pragma once

#include <sys/epoll.h>

#include <coroutine>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "co.hpp"
#include "deadlines.hpp"
#include "fd.hpp"
#include "room.hpp"

/// For one thread, but for wake(). It owns every coroutine that was spawned, down to the innermost that it awaits.
class Loop {
   public:
    Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    /// Starts a coroutine of its own; an exception that ends it ends run(). Where there is no memory for it, throws
    /// std::bad_alloc and has not started it.
    void spawn(Co<void> co);
    /// How many of them have not ended.
    [[nodiscard]] std::size_t running() const noexcept { return running_.size(); }
    /// Runs until all have ended. Throws std::system_error.
    void run();

    /// The time at which this round began.
    [[nodiscard]] TimePoint now() const noexcept { return now_; }

    /// `co_await loop.turn()`: after everybody else who can go on.
    struct Turn : std::suspend_always {
        void await_suspend(std::coroutine_handle<> caller) { ready_queue.push_back(caller); }
    };
    Turn turn() { return {}; }

    /// `co_await loop.sleep(duration)`. An object of it can be awaited again and again, and needs no memory for that.
    class Sleep;
    Sleep sleep(std::chrono::nanoseconds duration);

    /// From any thread: this coroutine can go on.
    void wake(std::coroutine_handle<> co);

   private:
    friend class Socket;

    /// Something with a deadline.
    struct Timed {
        virtual void due() = 0;

       protected:
        ~Timed() = default;
    };

    void woken();

    Fd epoll_;
    Fd event_;  // eventfd(2): what other threads write to, so that epoll_wait(2) returns
    Deadlines<Timed*> deadlines_;
    std::vector<std::coroutine_handle<>> round_;  // those whose turn it is
    std::mutex mutex_;                            // for what follows, which other threads fill
    std::vector<std::coroutine_handle<>> woken_;
    TimePoint now_ = Clock::now();
    Storm storm_;
    std::unordered_map<void*, Co<void>> running_;  // last, so that the frames go before what they refer to
};

class Loop::Sleep final : Timed {
   public:
    Sleep(Loop& loop, std::chrono::nanoseconds duration)
        : duration_(duration), entry_(loop.deadlines_, TimePoint::max(), this) {}

    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) noexcept {
        caller_ = caller;
        entry_.move(Clock::now() + duration_);
    }
    void await_resume() noexcept {}

   private:
    void due() override {
        entry_.move(TimePoint::max());
        ready_queue.push_back(caller_);
    }

    std::chrono::nanoseconds duration_;
    Deadlines<Timed*>::Entry entry_;
    std::coroutine_handle<> caller_;
};

inline Loop::Sleep Loop::sleep(std::chrono::nanoseconds duration) { return {*this, duration}; }

/// A descriptor that one coroutine waits for. Does not own it; must be destroyed before it is closed. To wait throws
/// std::system_error where the kernel has no memory to watch the descriptor (epoll_ctl(2)).
class Socket final : Loop::Timed {
   public:
    Socket(Loop& loop, int fd);
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket();

    class Wait {
       public:
        bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<> caller) { socket_.wait(caller, events_, ends_); }
        bool await_resume() noexcept { return socket_.in_time_; }

       private:
        friend class Socket;
        Wait(Socket& socket, std::uint32_t events, TimePoint ends) : socket_(socket), events_(events), ends_(ends) {}
        Socket& socket_;
        std::uint32_t events_;
        TimePoint ends_;
    };

    /// `co_await socket.readable(ends)`: until there is something to be read (the other's end, or an error, included): true;
    /// or until the time has come: false.
    Wait readable(TimePoint ends = TimePoint::max()) { return {*this, EPOLLIN, ends}; }
    Wait writable(TimePoint ends = TimePoint::max()) { return {*this, EPOLLOUT, ends}; }
    /// One of the two, EPOLLIN or EPOLLOUT; 0: only until the time has come.
    Wait event(std::uint32_t events, TimePoint ends) { return {*this, events, ends}; }

   private:
    friend class Loop;
    void wait(std::coroutine_handle<> caller, std::uint32_t events, TimePoint ends);
    void happened();
    void due() override;
    void watch(std::uint32_t events);

    Loop& loop_;
    int fd_;
    std::uint32_t interest_ = 0;  // what epoll was asked to report; 0: it does not know the descriptor
    std::coroutine_handle<> caller_;
    std::uint32_t awaited_ = 0;  // by the caller
    TimePoint ends_ = TimePoint::max();
    Deadlines<Loop::Timed*>::Entry entry_;
    bool in_time_ = true;
};
