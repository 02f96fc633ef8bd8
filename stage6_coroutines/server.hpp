/// The conversation as a coroutine.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "loop.hpp"
#include "pool.hpp"
#include "sockets.hpp"
#include "tasks.hpp"

class Server {
   public:
    /// The listener is non-blocking. Throws std::system_error.
    Server(const Service& service, const Listener& listener, int threads);

    /// Serves until the server stops and every client is gone. Throws std::system_error.
    void run();

   private:
    Co<void> converse(Client client);
    Co<Reply> carry_out(Work& work);
    Reply write(const Store& store);

    const Service& service_;
    const Listener& listener_;
    Tasks tasks_;  // for reads, in the loop
    std::uint64_t answered_ = 0;
    std::array<char, 4096> input_;  // for all clients
    Buffers buffers_{input_};
    std::mutex mutex_;     // for what follows, which the pool's threads share
    Tasks written_tasks_;  // the same file, for writes
    Loop loop_;
    Pool pool_;  // after the loop: its threads must have ended before the frames that they write to go
};
