/// Threads that compute for the coroutines, so that the loop need not.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "loop.hpp"
#include "protocol/work.hpp"

/// A queue of jobs, and threads that take them from it. Each thread runs one job at a time; further jobs wait. What a
/// job throws is thrown in the coroutine that awaits it. A pool without threads runs its jobs in the loop, and everybody
/// waits. The destructor waits for the jobs that run, and drops those in the queue.
class Pool {
   public:
    /// The loop must outlive the pool. Throws std::system_error if a thread cannot be started.
    Pool(Loop& loop, int threads);
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool();

    class Job;
    /// `co_await pool.run(job, socket)` runs the job in one of the threads, while the loop goes on, and returns its result.
    /// If the client resets the connection, a job that still waits in the queue is taken out, and the result is gone().
    /// (Name a capturing lambda before you pass it: g++ 12 destroys it twice if it is written inside a co_await expression.)
    Job run(std::function<Work()> job, Socket& socket);

   private:
    void work(const std::stop_token& end);

    Loop& loop_;
    std::mutex mutex_;  // guards queue_
    std::condition_variable_any not_empty_;
    std::deque<Job*> queue_;
    std::vector<std::jthread> threads_;  // ~jthread joins them
};

/// Lives in the frame of the coroutine that awaits it. That coroutine stays suspended until the job is done.
class Pool::Job {
   public:
    Job(Pool& pool, std::function<Work()> job, Socket& socket) : pool_(pool), job_(std::move(job)), socket_(socket) {}

    bool await_ready() noexcept { return false; }
    void await_suspend(auto caller) { begin(caller.promise()); }
    Work await_resume();

   private:
    friend class Pool;
    void begin(Coroutine& caller);
    void perform() noexcept;
    void call_off();

    Pool& pool_;
    std::function<Work()> job_;
    Socket& socket_;
    std::optional<Work> work_;
    std::exception_ptr exception_;
    Coroutine* caller_ = nullptr;
};

inline Pool::Job Pool::run(std::function<Work()> job, Socket& socket) { return {*this, std::move(job), socket}; }

/// The answer to a client that has reset its connection. Nobody will get it. Only the log shows it, as nginx's does.
inline Reply gone() { return {.status = 499, .counted = false}; }
