#include <sys/select.h>

#include <cerrno>

#include "rest.hpp"

namespace {

/// select(2) does the same, and is older: its lists are sets of bits, one for each descriptor from 0 up, wanted in and ready
/// out in the same place, so they are made anew each time. There are FD_SETSIZE bits (1,024), however many descriptors a
/// process may have: setting one past the end writes over whatever lies behind the set (select(2), NOTES). So a client whose
/// descriptor is not below that number can't be served here.
void wait(std::vector<pollfd>& sockets, TimePoint until) {
    fd_set readable;
    fd_set writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    int end = 0;
    for (const pollfd& socket : sockets) {
        if (socket.fd < 0) continue;
        FD_SET(socket.fd, socket.events == POLLIN ? &readable : &writable);
        end = std::max(end, socket.fd + 1);
    }
    const timespec left = time_left(until);  // pselect(2) is select(2) with a finer clock
    if (pselect(end, &readable, &writable, nullptr, until == TimePoint::max() ? nullptr : &left, nullptr) < 0) {
        if (errno != EINTR) wait_blindly(sockets);
        return;
    }
    for (pollfd& socket : sockets)
        if (socket.fd >= 0 && (FD_ISSET(socket.fd, &readable) || FD_ISSET(socket.fd, &writable)))
            socket.revents = socket.events;
}

}  // namespace

const Rest in_select{wait, FD_SETSIZE};
