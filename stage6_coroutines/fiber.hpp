/// A stackful coroutine: a function with a stack of its own, which can wait anywhere, in calls of calls as well.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>

#include "deadlines.hpp"
#include "stack_notes.hpp"

/// What a fiber waits for.
struct Wish {
    std::uint32_t events = 0;  ///< of its socket: EPOLLIN or EPOLLOUT; 0: of nothing but the time
    TimePoint until = TimePoint::max();
};

/// Where a C++20 coroutine keeps what it needs in a frame of its own size, and every function on the way must be one, this
/// keeps a whole stack, and the functions on it know nothing. The price is memory: pages of the stack as they are touched.
///
/// All fibers run in one thread, one at a time; a switch from one to another is two calls of swapcontext(3). Two rules: no
/// fiber waits inside a `catch`, since the C++ runtime keeps track of exceptions by thread; and what it holds while it
/// waits, a lock or a half-changed object, the others find so.
class Fiber {
   public:
    /// Does not start it. Throws std::system_error where there is no memory for a stack.
    explicit Fiber(std::function<void()> body);
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;
    /// What is on the stack of one that has not ended is lost, not destroyed.
    ~Fiber();

    /// Runs it until it waits (true) or ends (false). Throws what the body threw.
    bool resume();
    /// What it waits for, when resume() said so.
    [[nodiscard]] const Wish& wish() const noexcept { return wish_; }
    /// Before resume(): whether it happened, or the time came first.
    void grant(bool happened) noexcept { granted_ = happened; }

    /// The one that runs; none outside of fibers.
    static Fiber* running() noexcept;
    /// Called on its stack: back to resume(), until it is called again. True if it happened, false if the time came first.
    bool wait(Wish wish);

   private:
    static void begin();

    std::function<void()> body_;
    void* stack_;  // its lowest page may not be touched
    StackNotes notes_;
    ucontext_t context_{};  // where it waits
    ucontext_t resumer_{};  // where resume() was called
    Wish wish_;
    bool granted_ = false;
    bool ended_ = false;
    std::exception_ptr exception_;
};
