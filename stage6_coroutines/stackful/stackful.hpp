/// The blocking conversation of stage 1, unchanged, on stackful coroutines: greenlet's and gevent's model.
#pragma once

#include <cstdint>

#include "../loop.hpp"
#include "base/service.hpp"
#include "protocol/work.hpp"
#include "sockets/sockets.hpp"
#include "tasks/tasks.hpp"

/// For one thread. `service` and `listener` must outlive it.
class Stackful {
   public:
    /// The listener must be non-blocking. Throws std::system_error.
    Stackful(const Service& service, const Listener& listener);

    /// Serves clients. Once the server stops or this worker retires, accepts no more, and returns when the last client is
    /// gone. What fails in one conversation ends it alone, and is logged. Throws std::system_error if the loop itself fails.
    void run();

   private:
    Co converse(Client client);
    void carry_out(Work& work);

    const Service& service_;
    const Listener& listener_;
    Tasks tasks_;
    Spare spare_;
    std::uint64_t answered_ = 0;  // one thread: no lock
    Loop loop_;
};

/// Each client has a stack. A stack takes two memory mappings (one is its guard), and a process may have 65,530 mappings
/// (vm.max_map_count, proc(5)).
inline constexpr int most_stacks = 30'000;
