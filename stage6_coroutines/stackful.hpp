/// The blocking conversation of stage 1, unchanged, on stackful coroutines: greenlet's and gevent's model.
#pragma once

#include <array>
#include <cstdint>

#include "loop.hpp"
#include "service.hpp"
#include "sockets.hpp"
#include "tasks.hpp"
#include "work.hpp"

class Stackful {
   public:
    /// The listener is non-blocking.
    Stackful(const Service& service, const Listener& listener);

    /// Serves until no client is to be accepted any more and everybody has gone. Throws std::system_error.
    void run();

   private:
    Co<void> converse(Client client);
    Reply carry_out(Work work);

    const Service& service_;
    const Listener& listener_;
    Tasks tasks_;
    std::array<char, 4096> input_;  // for all clients
    Buffers buffers_{input_};
    std::uint64_t answered_ = 0;  // one thread: no lock
    Loop loop_;
};

/// Each client has a stack, and a stack is two of a process's mappings (its guard is one), of which there may be 65,530
/// (vm.max_map_count, proc(5)).
inline constexpr int most_stacks = 30'000;
