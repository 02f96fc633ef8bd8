#include "rest.hpp"

#include <cerrno>

namespace {

/// poll(2) sleeps until one of them can go on. The whole list is handed to the kernel each time, which looks at every
/// socket in it, and we look through it again to find those marked: with many clients of whom few do something, that is
/// most of the work. epoll(7) keeps the list in the kernel, and stage 5 is about that.
void wait(std::vector<pollfd>& sockets, TimePoint until) {
    const timespec left = time_left(until);  // ppoll(2) is poll(2) with a finer clock
    if (ppoll(sockets.data(), sockets.size(), until == TimePoint::max() ? nullptr : &left, nullptr) < 0 && errno != EINTR)
        wait_blindly(sockets);
}

}  // namespace

const Rest in_poll{wait};
