#include "pool.hpp"

#include <system_error>

Pool::Pool(Loop& loop, int threads) : loop_(loop) {
    try {
        for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
        end();
        throw std::system_error(error.code(), "cannot start a thread");
    }
}

void Pool::end() {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
}

/// What each thread does.
void Pool::work() {
    for (;;) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
        if (ending_) return;
        Job* const job = queue_.front();
        queue_.pop_front();
        lock.unlock();
        job->perform();
        loop_.wake(job->caller_);  // the last touch: from here on the job may be gone
    }
}

void Pool::Job::perform() noexcept {
    try {
        reply_ = job_();
    } catch (...) {
        exception_ = std::current_exception();
    }
}

void Pool::Job::await_suspend(std::coroutine_handle<> caller) {
    caller_ = caller;
    if (pool_.threads_.empty()) {
        perform();
        return ready_queue.push_back(caller);
    }
    {
        const std::lock_guard lock(pool_.mutex_);
        pool_.queue_.push_back(this);
    }
    pool_.changed_.notify_one();
}

Reply Pool::Job::await_resume() {
    if (exception_) std::rethrow_exception(exception_);
    return std::move(*reply_);
}
