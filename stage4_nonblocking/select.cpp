#include <sys/select.h>

#include <cerrno>

#include "rest.hpp"

namespace {

/// select(2) does the same, and is older. Its lists are sets of bits, one bit for each descriptor from 0 up. The kernel puts
/// the ready sockets in the place of the wanted ones, so the sets are made anew for each call. A set has FD_SETSIZE bits
/// (1,024), however many descriptors a process may have. Setting a bit past the end overwrites the memory behind the set
/// (select(2), NOTES). So a client whose descriptor is 1,024 or above cannot be served here.
void wait(std::vector<pollfd>& sockets, TimePoint until) {
    fd_set readable;
    fd_set writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    int end = 0;
    for (const pollfd& socket : sockets) {
        if (socket.fd < 0 || socket.events == 0) continue;
        FD_SET(socket.fd, socket.events == POLLIN ? &readable : &writable);
        end = std::max(end, socket.fd + 1);
    }
    const timespec left = time_left(until);  // pselect(2) is select(2) with a finer clock
    if (pselect(end, &readable, &writable, nullptr, until == TimePoint::max() ? nullptr : &left, nullptr) < 0) {
        if (errno != EINTR) wait_blindly(sockets);
        return;
    }
    for (pollfd& socket : sockets)
        if (socket.fd >= 0 && socket.events != 0 && (FD_ISSET(socket.fd, &readable) || FD_ISSET(socket.fd, &writable)))
            socket.revents = socket.events;
}

}  // namespace

const Rest in_select{wait, FD_SETSIZE};
