#include "loop.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
    if (!epoll_ || !event_ || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.get(), &event) != 0)
        throw std::system_error(errno, std::generic_category(), "cannot set up epoll");
}

void Loop::spawn(Co co) {
    running_.push_front(std::move(co));
    Coroutine& spawned = running_.front().coroutine();
    spawned.owner = running_.begin();
    spawned.queue = &ready_;
    spawned.queue_up();
}

void Loop::run() {
    std::array<epoll_event, 256> events;
    for (;;) {
        // Run what is queued now. What arrives meanwhile waits until epoll has been asked.
        Queue round = std::exchange(ready_, {});
        while (Coroutine* const co = round.pop()) {
            if (co->handle.done()) {
                co->owner->await_resume();
                running_.erase(co->owner);
            } else {
                co->handle.resume();
            }
        }
        if (running_.empty()) return;
        const int timeout = ready_.empty() ? deadlines_.timeout(Clock::now()) : 0;
        const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
        if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_wait");
        look_at_clock();
        // No coroutine has run since epoll_wait(2), so each socket that an event points to still exists.
        for (int i = 0; i < ready; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            auto* const socket = static_cast<Socket*>(event.data.ptr);
            socket ? socket->happened(event.events) : woken();
        }
        while (const auto socket = deadlines_.due(now_)) (*socket)->due();
    }
}

void Loop::wake(Coroutine& co) {
    {
        const std::lock_guard lock(mutex_);
        woken_.push(co);
    }
    const std::uint64_t one = 1;
    static_cast<void>(!write(event_.get(), &one, sizeof one));  // it cannot fail: the sum of ones does not overflow
}

void Loop::woken() {
    std::uint64_t sum = 0;
    static_cast<void>(!read(event_.get(), &sum, sizeof sum));
    const std::lock_guard lock(mutex_);
    while (Coroutine* const co = woken_.pop()) co->queue_up();
}

Socket::Socket(Loop& loop, int fd, Place place)
    : loop_(loop), fd_(fd), place_(place), entry_(loop.deadlines_, TimePoint::max(), this) {}

Socket::~Socket() {
    if (interest_ != 0) watch(0);
}

void Socket::wait(Coroutine& caller, std::uint32_t events, TimePoint ends) {
    if (interest_ != events) watch(events);
    caller_ = &caller;
    ends_ = ends;
    // Each request extends the time. The entry may lag behind, and is moved when it is due: that costs less than moving it
    // at each request.
    if (ends < entry_.when()) entry_.move(ends);
}

void Socket::happened(std::uint32_t events) {
    if (caller_) {
        in_time_ = loop_.now() < ends_;
        Coroutine& caller = *std::exchange(caller_, nullptr);
        place_ == Place::first ? loop_.ready_.push_first(caller) : caller.queue_up();
    } else if ((events & (EPOLLERR | EPOLLHUP)) == 0) {
        // No coroutine waits for the socket now: the pool may be computing for it. Level-triggered epoll would report unread
        // bytes without end, so ask only for a reset until a coroutine waits again.
        watch(EPOLLERR);
    } else {
        watch(0);  // or epoll would report the reset without end
        if (at_reset_) at_reset_();
    }
}

void Socket::due() {
    const bool over = caller_ && ends_ <= loop_.now();
    entry_.move(caller_ && !over ? ends_ : TimePoint::max());
    if (!over) return;
    in_time_ = false;
    std::exchange(caller_, nullptr)->queue_up();
}

void Socket::watch(std::uint32_t events) {
    epoll_event event{.events = events, .data = {.ptr = this}};
    const int operation = events == 0 ? EPOLL_CTL_DEL : interest_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(loop_.epoll_.get(), operation, fd_, &event) != 0 && events != 0)
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    interest_ = events;
}
