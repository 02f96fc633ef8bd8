/// A loop for each thread: several event loops in one process.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>

#include "edge_loop.hpp"
#include "process/start.hpp"

/// The lock is back. A loop that waits for it waits with all its clients. The count needs none: it is one atomic number.
struct Locked final : Shared {
    using Shared::Shared;
    Answer ask(const Query& query) override {
        const std::lock_guard lock(mutex);
        return Shared::ask(query);
    }
    std::uint64_t answered() override { return count_of_all; }
    void add_one() override { ++count_of_all; }
    std::mutex mutex;  // guards tasks
    std::atomic<std::uint64_t> count_of_all{0};
};

/// Runs a loop for each listener until it ends, the first one here, the others in threads. If one fails, its clients would
/// wait for ever, so the process ends (status 1).
template <class MakeLoop>
void run_loops(const Service& service, const std::vector<Listener>& listeners, MakeLoop make_loop) {
    Locked shared(service.options.db);
    std::list<std::unique_ptr<EpollLoop>> loops;  // all before the first client, which could take the last descriptor
    for (const Listener& mine : listeners) loops.push_back(make_loop(mine, shared));
    const auto or_end = [&](auto what) {
        try {
            what();
        } catch (const std::exception& why) {
            failed(service.options.about, why);
            stop::cut_off();
        }
    };
    std::vector<std::jthread> threads;  // ~jthread waits for its end
    for (const auto& loop : loops)
        if (loop != loops.front()) or_end([&] { threads.emplace_back(or_end, [&] { loop->run(); }); });
    or_end([&] { loops.front()->run(); });
}
