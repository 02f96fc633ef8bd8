#include "rest.hpp"

#include <cerrno>

namespace {

/// poll(2) sleeps until a socket is ready. Each call hands the whole list to the kernel, which looks at every socket in it.
/// Then we look through the list for the marked ones. If few of many clients do something, that is most of the work.
/// epoll(7) keeps the list in the kernel, and stage 5 is about that.
void wait(std::vector<pollfd>& sockets, TimePoint until) {
    const timespec left = time_left(until);  // ppoll(2) is poll(2) with a finer clock
    if (ppoll(sockets.data(), sockets.size(), until == TimePoint::max() ? nullptr : &left, nullptr) < 0 && errno != EINTR)
        wait_blindly(sockets);
}

}  // namespace

const Rest in_poll{wait};
