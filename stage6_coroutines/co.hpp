/// A coroutine: a function that can wait in the middle and go on later.
#pragma once

#include <coroutine>
#include <exception>
#include <list>
#include <utility>

class Co;
class Queue;

/// What the loop knows of a coroutine. It is part of the frame, so queuing a coroutine takes no memory and cannot fail.
struct Coroutine {
    std::coroutine_handle<> handle;
    Queue* queue = nullptr;         ///< the loop's, of coroutines that can go on
    Coroutine* next = nullptr;      ///< the next one in that queue
    std::list<Co>::iterator owner;  ///< its place in the loop's list, if no other coroutine awaits it

    /// Says that this coroutine can go on: Loop::run() resumes the queue one by one. Only for the loop's thread (others call
    /// Loop::wake()), and not while it is queued. Symmetric transfer needs no queue: a coroutine that ends would itself
    /// resume the one that awaits it. But then the stack would grow with each coroutine that ends at once, in every build
    /// that does not turn the last call into a jump (-O0, sanitizers).
    void queue_up() noexcept;
};

/// Coroutines in the order in which they go on.
class Queue {
   public:
    [[nodiscard]] bool empty() const noexcept { return !first_; }
    void push(Coroutine& co) noexcept { last_ = (last_ ? last_->next : first_) = &co; }
    void push_first(Coroutine& co) noexcept {
        co.next = std::exchange(first_, &co);
        if (!last_) last_ = &co;
    }
    Coroutine* pop() noexcept {
        Coroutine* const co = first_;
        if (co) first_ = std::exchange(co->next, nullptr);
        if (!first_) last_ = nullptr;
        return co;
    }

   private:
    Coroutine* first_ = nullptr;
    Coroutine* last_ = nullptr;
};

inline void Coroutine::queue_up() noexcept { queue->push(*this); }

/// A coroutine without a result: it writes what it finds out to where its parameters point. It starts when it is awaited,
/// or after Loop::spawn(). Only one coroutine may await it, and only once. That one, or the loop, holds this object, which
/// owns the frame (the locals, and where it stopped): destroying the caller's frame destroys this one. The frame has copies
/// of the parameters taken by value. One taken by reference must refer to something that outlives the coroutine.
class [[nodiscard]] Co {
   public:
    struct promise_type : Coroutine {
        Coroutine* awaited_by = this;  // itself if no other does: then it queues up at its end, and the loop destroys it
        std::exception_ptr exception;

        promise_type() noexcept { handle = std::coroutine_handle<promise_type>::from_promise(*this); }
        Co get_return_object() noexcept { return Co(*this); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { exception = std::current_exception(); }

        /// At its end it stays suspended, and the coroutine that awaits it can go on.
        struct End : std::suspend_always {
            void await_suspend(std::coroutine_handle<promise_type> self) noexcept { self.promise().awaited_by->queue_up(); }
        };
        End final_suspend() noexcept { return {}; }
    };

    Co(Co&& other) noexcept : promise_(std::exchange(other.promise_, nullptr)) {}
    ~Co() {
        if (promise_) promise_->handle.destroy();
    }

    /// What `co_await` does: suspends the caller, and runs this coroutine until it first waits or ends. Its end queues the
    /// caller up.
    bool await_ready() noexcept { return false; }
    void await_suspend(auto caller) {
        promise_->awaited_by = &caller.promise();
        promise_->queue = caller.promise().queue;
        promise_->handle.resume();
    }
    /// Once it has ended: throws the exception that ended it, if one did.
    void await_resume() {
        if (promise_->exception) std::rethrow_exception(promise_->exception);
    }

    [[nodiscard]] Coroutine& coroutine() noexcept { return *promise_; }

   private:
    explicit Co(promise_type& promise) noexcept : promise_(&promise) {}
    promise_type* promise_;
};
