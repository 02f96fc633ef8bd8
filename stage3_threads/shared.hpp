/// What the threads share, and the lock that this takes.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "serve.hpp"
#include "tasks.hpp"

/// What all threads touch, so each touch needs the lock: without it two of them would read the same count, add one, and
/// write the same sum.
class Count {
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

/// A lock each: who writes a task may wait for the disk, or for another process, and every request is counted. (Who asks for
/// the count gets it with the tasks in hand, and waits for them.)
struct Shared {
    explicit Shared(const std::string& db) : tasks(db) {}

    Count answered;
    std::mutex mutex;  // for the tasks
    Tasks tasks;
};

inline Reply carry_out(Work work, Shared& shared) {
    Reply reply = wait_or_compute(std::move(work), [&](Store& store) {
        const std::uint64_t answered = shared.answered.value();
        const std::lock_guard lock(shared.mutex);
        return store.run(shared.tasks, answered);
    });
    if (reply.counted) shared.answered.add_one();
    return reply;
}
