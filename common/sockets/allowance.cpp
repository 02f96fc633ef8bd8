#include "sockets/allowance.hpp"

#include "sockets/sockets.hpp"
#include "sockets/stop.hpp"

void Allowance::time_out(Session& session, int fd, TimePoint now) {
    if (!session.said_all()) {
        const Next waited_for = session.next();
        const std::size_t output = session.output().size();
        waited_for == Next::read ? receive_waiting(session, fd) : offer(session, fd);
        if (session.next() == waited_for && session.output().size() == output) session.time_out();
        renew(now);
    } else if (delivered_ || now >= leaves_) {
        session.abandon();
    } else if (delivered(fd)) {
        delivered_ = true;
        ends_ = now + farewell_limit;
    } else {
        ends_ = std::min(now + delivery_pause, leaves_);
    }
}

bool Allowance::may_close(const Session& session, int fd, TimePoint now) noexcept {
    if (session.over()) return true;
    take_leave(now);
    return now >= leaves_ || delivered(fd);
}

void Allowance::take_leave(TimePoint now) noexcept {
    if (leaves_ != TimePoint::max()) return;
    // During a stop, the stop's own limit must come first, although `now` may be older than the stop: it is status 1 then.
    leaves_ = now + delivery_limit + (stop::requested() ? farewell_limit : std::chrono::seconds(0));
    ends_ = now + delivery_pause;
}
