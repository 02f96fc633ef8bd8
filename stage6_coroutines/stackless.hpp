/// The conversation as a coroutine.
#pragma once

#include <cstdint>
#include <mutex>

#include "loop.hpp"
#include "pool.hpp"
#include "sockets/sockets.hpp"
#include "tasks/tasks.hpp"

/// `service` and `listener` must outlive it.
class Stackless {
   public:
    /// The listener must be non-blocking. `threads`: the pool's; 0: the loop does their work. Throws std::system_error.
    Stackless(const Service& service, const Listener& listener, int threads);

    /// Serves clients. Once the server stops or this worker retires, accepts no more, and returns when the last client is
    /// gone. What fails in one conversation ends it alone, and is logged. Throws std::system_error if the loop itself fails.
    void run();

   private:
    Co converse(Client client);
    Co carry_out(Work& work, Socket& socket);
    Work write(const Store& store);

    const Service& service_;
    const Listener& listener_;
    Tasks tasks_;  // for reads, in the loop
    std::uint64_t answered_ = 0;
    Spare spare_;
    char room_[4096];      // where bytes are received
    std::mutex mutex_;     // guards written_tasks_, which the pool's threads share
    Tasks written_tasks_;  // the same file, for writes
    Loop loop_;
    Pool pool_;  // after the loop, so that its threads end before the frames that they write to are destroyed
};
