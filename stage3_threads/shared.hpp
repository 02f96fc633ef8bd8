/// What the threads share, and the locks for it.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "sockets/serve.hpp"
#include "tasks/tasks.hpp"

/// All threads use this, so each use takes the lock. Without it, two threads could read the same count, add one, and write
/// the same sum.
class Counter {
   public:
    [[nodiscard]] std::uint64_t value() {
        const std::lock_guard lock(mutex_);
        return value_;
    }
    void add_one() {
        const std::lock_guard lock(mutex_);
        ++value_;
    }

   private:
    std::mutex mutex_;
    std::uint64_t value_ = 0;
};

/// The tasks and the count have a lock each. A thread that writes a task may wait for the disk, or for another process, and
/// the others must be able to count meanwhile.
struct Shared {
    explicit Shared(const std::string& db) : tasks(db) {}

    /// One thread at a time: the next one waits until this question is answered.
    Answer ask(const Query& query) {
        const std::lock_guard lock(mutex);
        return tasks.ask(query);
    }

    Counter answered;
    std::mutex mutex;  // guards tasks
    Tasks tasks;
};

inline void carry_out(Work& work, Shared& shared) {
    const Reply& reply = wait_or_compute(work, shared, [&] { return shared.answered.value(); });
    if (reply.counted) shared.answered.add_one();
}
