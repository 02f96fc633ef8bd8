/// How long the server waits for one client. Event loops and blocking threads share this one rule.
#pragma once

#include <algorithm>
#include <chrono>

#include "protocol/session.hpp"
#include "sockets/deadlines.hpp"

/// How long a client may take to receive the last reply.
inline constexpr std::chrono::seconds delivery_limit{10};
/// The pause between two checks of that, because no event reports the delivery.
inline constexpr std::chrono::milliseconds delivery_pause{20};
/// How long a client that has the last reply may take to hang up. Then the server hangs up.
inline constexpr std::chrono::seconds farewell_limit{1};

/// A client has the idle time-out to complete its next request or to take a part of a reply. Bytes that complete no request
/// do not extend it. Once everything is said, it has ten seconds to receive the last reply, then one second to hang up.
/// During a stop, the stop's own ten seconds end first (stop.hpp).
///
/// A renewal costs one assignment. An event loop need not move its deadline for it. For one thread.
class Allowance {
   public:
    /// `idle`: the idle time-out; zero means for ever.
    Allowance(std::chrono::nanoseconds idle, TimePoint now) noexcept : idle_(idle) { renew(now); }

    /// The client completed a request or took a part of a reply. A time earlier than the last one changes nothing.
    void renew(TimePoint now) noexcept { ends_ = idle_ > idle_.zero() ? std::max(ends_, now + idle_) : TimePoint::max(); }

    /// Until when to wait for the client. If it has done nothing by then, call time_out(). Ask before each wait.
    TimePoint ends(const Session& session, TimePoint now) noexcept {
        if (session.said_all()) take_leave(now);
        return ends_;
    }

    /// Perhaps the client acted in time, but another client's work kept the server from looking. So this receives or sends
    /// once more. It calls Session::time_out() only if the client has neither completed a request nor taken output. After
    /// the last reply it checks the delivery instead, and abandons the session at the limits above. Throws std::bad_alloc.
    void time_out(Session& session, int fd, TimePoint now);

    /// When Session::next() said `close`: whether the connection may be closed. If not, a reply is still on its way: ask
    /// again after delivery_pause. True after delivery_limit at the latest.
    bool may_close(const Session& session, int fd, TimePoint now) noexcept;

   private:
    void take_leave(TimePoint now) noexcept;

    std::chrono::nanoseconds idle_;
    TimePoint ends_ = TimePoint::min();
    TimePoint leaves_ = TimePoint::max();  // once everything is said: when the server closes at the latest
    bool delivered_ = false;               // whether the client has received the last reply
};
