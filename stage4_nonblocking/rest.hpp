/// How the sweep may rest between two rounds.
#pragma once

#include <poll.h>

#include <limits>
#include <thread>
#include <vector>

#include "deadlines.hpp"
#include "limits.hpp"

/// One way to rest. `wait` is given every socket and what it waits for (`events`; a negative descriptor is to be ignored),
/// and marks in `revents` those that are worth asking; it returns when there is one, when a signal came, or when the time
/// has come. The struct is poll(2)'s; the others are made to fit.
struct Rest {
    void (*wait)(std::vector<pollfd>& sockets, TimePoint until);
    int descriptors = std::numeric_limits<int>::max();  ///< it can watch those below this number
};

extern const Rest in_spin;
extern const Rest in_poll;
extern const Rest in_select;

/// Where the kernel has no memory to look at them (or a limit on descriptors was lowered below their number): after a pause,
/// everybody is worth asking.
inline void wait_blindly(std::vector<pollfd>& sockets) {
    std::this_thread::sleep_for(shortage_pause);
    in_spin.wait(sockets, {});
}
