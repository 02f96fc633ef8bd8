/// A stackful coroutine: a function with its own stack. It can wait anywhere, inside nested calls as well.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>

#include "sockets/deadlines.hpp"
#include "stack_notes.hpp"

/// What a fiber waits for.
struct Awaited {
    std::uint32_t events = 0;  ///< of its socket: EPOLLIN, EPOLLOUT, or only EPOLLERR; 0: for nothing but the others' turns
    TimePoint ends = TimePoint::max();
};

/// A C++20 coroutine keeps what it needs in a frame of its own size, and every function on the way to a wait must be a
/// coroutine. A fiber keeps a whole stack, and the functions on it need no change. The price is memory: each page of the
/// stack that is touched.
///
/// All fibers run in one thread, one at a time. A switch from one to another is two calls of swapcontext(3). Two rules. A
/// fiber must not wait inside a `catch`, because the C++ runtime tracks exceptions per thread. And while a fiber waits, the
/// others find what it left: a lock that it holds, or a half-changed object.
class Fiber {
   public:
    /// Does not start it. The body must not throw. Throws std::system_error if there is no memory for a stack.
    explicit Fiber(std::function<void()> body);
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;
    /// If the fiber has not ended, the objects on its stack are lost, not destroyed.
    ~Fiber();

    /// Runs it until it waits (true) or ends (false). `happened`: what its wait() returns; ignored the first time. To be
    /// called outside of fibers, and not after it has ended.
    bool resume(bool happened);
    /// What it waits for, if resume() returned true.
    [[nodiscard]] const Awaited& awaits() const noexcept { return awaits_; }

    /// Called on a fiber's stack: makes its resume() return, and waits until that is called again. Returns that call's
    /// `happened`: false if the time came first, or if it waits for nothing but the others' turns.
    static bool wait(Awaited awaited);

   private:
    static void begin() noexcept;

    std::function<void()> body_;
    void* stack_;  // its lowest page is the guard
    StackNotes notes_;
    StackNotes resumers_notes_;
    ucontext_t context_{};  // where it waits
    ucontext_t resumer_{};  // where resume() was called
    Awaited awaits_;
    bool happened_ = false;
    bool ended_ = false;
};
