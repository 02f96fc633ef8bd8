/// Threads that compute for the coroutines, so that the loop need not.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "loop.hpp"
#include "work.hpp"

/// A queue of jobs, and threads that take them from it. As many run at once as there are threads; the others wait. A pool
/// without threads runs them in the loop, and everybody waits.
class Pool {
   public:
    /// Throws std::system_error where there are no such threads to be had.
    Pool(Loop& loop, int threads);
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    /// Waits for the jobs that run; those that wait in the queue are dropped.
    ~Pool() { end(); }

    class Job;
    /// `co_await pool.run(job)`: the job's reply, computed in one of the threads while the loop goes on. (Name a lambda that
    /// captures before you pass it: g++ 12 destroys twice what is written inside a co_await expression.)
    Job run(std::function<Reply()> job);

   private:
    void work();
    void end();

    Loop& loop_;
    std::mutex mutex_;  // for what follows
    std::condition_variable changed_;
    std::deque<Job*> queue_;
    bool ending_ = false;
    std::vector<std::jthread> threads_;  // joined at the end of their lives
};

/// Lives in the frame of the coroutine that awaits it, which stays suspended until the job is done.
class Pool::Job {
   public:
    Job(Pool& pool, std::function<Reply()> job) : pool_(pool), job_(std::move(job)) {}

    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller);
    Reply await_resume();

   private:
    friend class Pool;
    void perform() noexcept;

    Pool& pool_;
    std::function<Reply()> job_;
    std::optional<Reply> reply_;
    std::exception_ptr exception_;
    std::coroutine_handle<> caller_;
};

inline Pool::Job Pool::run(std::function<Reply()> job) { return {*this, std::move(job)}; }
