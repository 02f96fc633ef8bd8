/// How the sweep rests between two rounds.
#pragma once

#include <poll.h>

#include <limits>
#include <thread>
#include <vector>

#include "sockets/deadlines.hpp"
#include "sockets/sockets.hpp"

/// One way to rest. `wait` is given every socket with the event that it waits for (`events`: POLLIN, POLLOUT or 0) and
/// `revents` 0. It ignores negative descriptors. It returns when a socket is worth asking, when a signal came, or at `until`
/// (TimePoint::max(): never); spin returns at once. It marks in `revents` each socket that is worth asking. Only poll(2)
/// marks one without `events`, if the client resets the connection. The struct is poll(2)'s, and the other ways use it, too.
struct Rest {
    void (*wait)(std::vector<pollfd>& sockets, TimePoint until);
    int descriptors = std::numeric_limits<int>::max();  ///< it can watch only descriptors below this
};

extern const Rest in_spin;
extern const Rest in_poll;
extern const Rest in_select;

/// For when the kernel cannot look at the sockets, because it is short of memory, or because the limit on descriptors was
/// lowered below their number. Pauses, and then marks every socket that waits for something.
inline void wait_blindly(std::vector<pollfd>& sockets) {
    std::this_thread::sleep_for(shortage_pause);
    in_spin.wait(sockets, {});
}
