#include "pool.hpp"

#include <system_error>

Pool::Pool(Loop& loop, int threads) : loop_(loop) {
    try {
        for (int i = 0; i < threads; ++i) threads_.emplace_back([this](const std::stop_token& end) { work(end); });
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), "cannot start a thread");
    }
}

Pool::~Pool() {
    for (std::jthread& thread : threads_) thread.request_stop();  // all of them, before the first is joined
}

/// What each thread does.
void Pool::work(const std::stop_token& end) {
    while (!end.stop_requested()) {
        std::unique_lock lock(mutex_);
        if (!not_empty_.wait(lock, end, [this] { return !queue_.empty(); })) return;
        Job* const job = queue_.front();
        queue_.pop_front();
        lock.unlock();
        job->perform();
        loop_.wake(*job->caller_);  // the last touch: from here on the job may be gone
    }
}

void Pool::Job::perform() noexcept {
    try {
        work_ = job_();
    } catch (...) {
        exception_ = std::current_exception();
    }
}

void Pool::Job::begin(Coroutine& caller) {
    caller_ = &caller;
    if (pool_.threads_.empty()) {
        perform();
        pool_.loop_.look_at_clock();  // the job took time, and everybody waited
        return caller.queue_up();
    }
    {
        const std::lock_guard lock(pool_.mutex_);
        pool_.queue_.push_back(this);
    }
    socket_.at_reset([this] { call_off(); });
    pool_.not_empty_.notify_one();
}

/// A job that runs already is left alone, and wakes its caller at its end.
void Pool::Job::call_off() {
    const std::lock_guard lock(pool_.mutex_);
    if (std::erase(pool_.queue_, this) == 0) return;
    work_ = gone();
    caller_->queue_up();
}

Work Pool::Job::await_resume() {
    socket_.at_reset({});
    if (exception_) std::rethrow_exception(exception_);
    return std::move(*work_);
}
