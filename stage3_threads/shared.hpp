/// What the threads share, and the lock that this takes.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "serve.hpp"
#include "tasks.hpp"

/// What all threads touch, so each touch needs the lock: without it two of them would read the same count, add one, and
/// write the same sum. One lock for both, as neither is held for long: waiting and computing happen outside of it.
struct Shared {
    explicit Shared(const std::string& db) : tasks(db) {}

    std::mutex mutex;
    Tasks tasks;
    std::uint64_t answered = 0;
};

inline Reply carry_out(Work work, Shared& shared) {
    Reply reply = wait_or_compute(std::move(work), [&](Store& store) {
        const std::lock_guard lock(shared.mutex);
        return store.run(shared.tasks, shared.answered);
    });
    const std::lock_guard lock(shared.mutex);
    if (reply.counted) ++shared.answered;
    return reply;
}
