/// A coroutine: a function that can wait in the middle, and go on later.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

/// The coroutines that can go on, in the order in which they will. The loop resumes them one by one from its own level: if a
/// coroutine that ends resumed the one that awaits it, as symmetric transfer does, the stack would grow with each that ends
/// at once, in every build that does not turn the last call into a jump (-O0, sanitizers). One loop a process, so one queue.
/// Room in it is made where a coroutine is spawned: to go on must not fail for want of memory.
inline std::vector<std::coroutine_handle<>> ready_queue;

/// A coroutine with a result, as in `Co<Reply> carry_out(Work)`. It starts when it is awaited, and the one who awaits owns
/// its frame (the locals, where it stopped) by owning this object. Awaited once, by one. Parameters are kept in the frame,
/// so take them by value, or by reference to what outlives the coroutine.
template <class T>
class [[nodiscard]] Co {
    struct Result {
        std::optional<T> value;
        void return_value(T result) { value.emplace(std::move(result)); }
        T take() { return std::move(*value); }
    };

   public:
    struct promise_type : Result {
        std::coroutine_handle<> awaited_by;
        std::exception_ptr exception;

        Co get_return_object() { return Co(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        void unhandled_exception() noexcept { exception = std::current_exception(); }

        /// At its end it stays suspended, with its result, and whoever awaits it is next. One that nobody awaits comes to
        /// the queue itself, done, for the loop to destroy.
        struct End {
            bool await_ready() noexcept { return false; }
            void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
                const auto next = self.promise().awaited_by;
                ready_queue.push_back(next ? next : self);
            }
            void await_resume() noexcept {}
        };
        End final_suspend() noexcept { return {}; }
    };

    Co(Co&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Co& operator=(Co&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Co() {
        if (handle_) handle_.destroy();
    }

    /// What `co_await` does: suspends the caller, and runs this one up to where it first waits.
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
        handle_.promise().awaited_by = caller;
        handle_.resume();
    }
    T await_resume() { return result(); }

    [[nodiscard]] std::coroutine_handle<> handle() const noexcept { return handle_; }
    /// Of one that is done: its result, or the exception that ended it.
    T result() {
        if (handle_.promise().exception) std::rethrow_exception(handle_.promise().exception);
        return handle_.promise().take();
    }

   private:
    explicit Co(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

template <>
struct Co<void>::Result {
    void return_void() noexcept {}
    void take() noexcept {}
};
