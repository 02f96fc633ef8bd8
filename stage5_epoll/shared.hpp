/// What all clients share.
#pragma once

#include <cstdint>

#include "tasks/tasks.hpp"

/// For one loop: one thread needs no lock. Several loops share one with a lock (loops.hpp).
struct Shared {
    explicit Shared(const std::string& db) : tasks(db) {}
    virtual ~Shared() = default;
    virtual Answer ask(const Query& query) { return tasks.ask(query); }
    virtual std::uint64_t answered() { return count; }
    virtual void add_one() { ++count; }
    Tasks tasks;
    std::uint64_t count = 0;
};
