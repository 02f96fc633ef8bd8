/// Deadlines in an event loop: which one comes next.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <optional>

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

/// The time left, for calls that take a timespec; zero if `until` is past.
inline timespec time_left(TimePoint until) noexcept {
    const auto left = std::max(until - Clock::now(), Clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    return {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(left - seconds).count()};
}

/// A queue of points in time, each with what it is about. Inserting and moving cost O(log n), finding the first O(1). For
/// one thread.
template <class About>
class Deadlines {
    using Queue = std::multimap<TimePoint, About>;

   public:
    /// A place in the queue, as long as this object lives. The queue must outlive it. A due entry stays in the queue until
    /// its owner moves it. At TimePoint::max() it is never due. Creating an entry allocates memory, moving it does not.
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

    /// What the first entry is about, if its time has come.
    [[nodiscard]] std::optional<About> due(TimePoint now) const {
        if (queue_.empty() || queue_.begin()->first > now) return {};
        return queue_.begin()->second;
    }

    /// For epoll_wait(2): milliseconds until the first entry is due, at most a day. -1: none will be. Rounded up, so that
    /// the loop does not spin through the last fraction of a millisecond.
    [[nodiscard]] int timeout(TimePoint now) const {
        using std::chrono::milliseconds;
        if (queue_.empty() || queue_.begin()->first == TimePoint::max()) return -1;
        const auto left = std::chrono::ceil<milliseconds>(queue_.begin()->first - now);
        return static_cast<int>(std::clamp(left, milliseconds(0), milliseconds(std::chrono::hours(24))).count());
    }

   private:
    Queue queue_;
};
