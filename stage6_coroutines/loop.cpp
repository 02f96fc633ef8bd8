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

void Loop::spawn(Co<void> co) {
    // In all the lists in which it may wait for its turn, so that to go on needs no memory.
    {
        const std::lock_guard lock(mutex_);
        for (auto* const list : {&ready_queue, &round_, &woken_}) make_room(*list, running_.size() + 1);
    }
    const auto handle = co.handle();
    running_.emplace(handle.address(), std::move(co));
    ready_queue.push_back(handle);
}

void Loop::run() {
    std::array<epoll_event, 256> events;
    while (!running_.empty()) {
        // Only those who are in the queue now: who comes to it meanwhile waits for the others' events.
        ready_queue.swap(round_);
        for (std::size_t i = 0; i < round_.size(); ++i) {  // it may be moved to where there is more room, see spawn()
            const auto co = round_[i];
            if (co.done())
                running_.extract(co.address()).mapped().result();
            else
                co.resume();
        }
        round_.clear();
        const int timeout = ready_queue.empty() ? deadlines_.timeout(Clock::now()) : 0;
        const int ready = running_.empty() ? 0 : epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
        if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_wait");
        now_ = Clock::now();
        // No coroutine runs here, so that every socket named in an event is still there.
        for (int i = 0; i < ready; ++i) {
            auto* const socket = static_cast<Socket*>(events[static_cast<std::size_t>(i)].data.ptr);
            socket ? socket->happened() : woken();
        }
        while (const auto timed = deadlines_.due(now_)) (*timed)->due();
        const std::lock_guard lock(mutex_);  // for the last of these
        storm_.may_have_passed(running_.size(), running_, ready_queue, round_, woken_);
    }
}

void Loop::wake(std::coroutine_handle<> co) {
    {
        const std::lock_guard lock(mutex_);
        woken_.push_back(co);
    }
    const std::uint64_t one = 1;
    static_cast<void>(!write(event_.get(), &one, sizeof one));  // it can't fail: the sum of ones does not overflow
}

void Loop::woken() {
    std::uint64_t sum = 0;
    static_cast<void>(!read(event_.get(), &sum, sizeof sum));
    const std::lock_guard lock(mutex_);
    ready_queue.insert(ready_queue.end(), woken_.begin(), woken_.end());
    woken_.clear();  // keeps its room
}

Socket::Socket(Loop& loop, int fd) : loop_(loop), fd_(fd), entry_(loop.deadlines_, TimePoint::max(), this) {}

Socket::~Socket() {
    if (interest_ != 0) watch(0);
}

void Socket::wait(std::coroutine_handle<> caller, std::uint32_t events, TimePoint ends) {
    if (events != 0 && interest_ != events) watch(events);
    caller_ = caller;
    awaited_ = events;
    ends_ = ends;
    // If the entry lies before this time, it is moved when it is due, which is cheaper than to do so at each request.
    if (ends < entry_.when()) entry_.move(ends);
}

void Socket::happened() {
    // Nobody waits for this socket: its coroutine sleeps, or the pool computes for it. Level-triggered epoll would report it
    // without end, a reset connection even if asked for nothing, so it is not asked at all until someone waits again.
    if (!caller_ || awaited_ == 0) return watch(0);
    in_time_ = true;
    ready_queue.push_back(std::exchange(caller_, {}));
}

void Socket::due() {
    const bool waiting = static_cast<bool>(caller_);
    const bool over = waiting && ends_ <= loop_.now();
    entry_.move(waiting && !over ? ends_ : TimePoint::max());
    if (!over) return;
    in_time_ = false;
    ready_queue.push_back(std::exchange(caller_, {}));
}

void Socket::watch(std::uint32_t events) {
    epoll_event event{.events = events, .data = {.ptr = this}};
    const int operation = events == 0 ? EPOLL_CTL_DEL : interest_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(loop_.epoll_.get(), operation, fd_, &event) != 0 && events != 0)
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    interest_ = events;
}
