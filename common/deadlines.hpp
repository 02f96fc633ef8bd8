/// Time in an event loop: how long each client is waited for, and whose time comes next.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <optional>

#include "limits.hpp"
#include "session.hpp"

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

/// The time left until then, for calls that want it so; none where it is past.
inline timespec time_left(TimePoint until) noexcept {
    const auto left = std::max(until - Clock::now(), Clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    return {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(left - seconds).count()};
}

/// Until when one client is waited for: a while after it last completed a request or took a reply, and a moment once it was
/// told everything. It is kept up to date by writing a number; only when the time has come is it looked at.
class Allowance {
   public:
    /// `idle`: zero for ever.
    Allowance(std::chrono::nanoseconds idle, TimePoint now) noexcept : idle_(idle) { renew(now); }

    /// A request was completed, or a reply taken.
    void renew(TimePoint now) noexcept { ends_ = idle_ > idle_.zero() ? now + idle_ : TimePoint::max(); }

    /// When a client who has to be waited for now has been waited for long enough.
    TimePoint ends(const Session& session, TimePoint now) noexcept {
        if (session.said_all() && !farewell_) {
            farewell_ = true;
            ends_ = now + farewell_limit;
        }
        return ends_;
    }

   private:
    std::chrono::nanoseconds idle_;
    TimePoint ends_;
    bool farewell_ = false;
};

/// A queue of points in time, each with what it is about. Insertion takes O(log n), the look at the first O(1). For one
/// thread.
template <class About>
class Deadlines {
    using Queue = std::multimap<TimePoint, About>;

   public:
    /// One's place in the queue, as long as this lives: what is due stays there until its owner moves it. The queue outlives
    /// it. Memory is needed for the place alone, and not to move.
    class Entry {
       public:
        Entry(Deadlines& deadlines, TimePoint when, About about)
            : queue_(deadlines.queue_), place_(queue_.emplace(when, std::move(about))) {}
        Entry(const Entry&) = delete;
        Entry& operator=(const Entry&) = delete;
        ~Entry() { queue_.erase(place_); }

        [[nodiscard]] TimePoint when() const { return place_->first; }
        void move(TimePoint when) {
            if (place_->first == when) return;
            auto node = queue_.extract(place_);
            node.key() = when;
            place_ = queue_.insert(std::move(node));
        }

       private:
        Queue& queue_;
        typename Queue::iterator place_;
    };

    /// Whose time has come.
    [[nodiscard]] std::optional<About> due(TimePoint now) const {
        if (queue_.empty() || queue_.begin()->first > now) return {};
        return queue_.begin()->second;
    }

    /// For epoll_wait(2): the milliseconds until the next one, rounded up lest the loop spin through the last one; -1: none.
    [[nodiscard]] int timeout(TimePoint now) const {
        using std::chrono::milliseconds;
        if (queue_.empty() || queue_.begin()->first == TimePoint::max()) return -1;
        const auto left = std::chrono::ceil<milliseconds>(queue_.begin()->first - now);
        return static_cast<int>(std::clamp(left, milliseconds(0), milliseconds(std::chrono::hours(24))).count());
    }

   private:
    Queue queue_;
};
