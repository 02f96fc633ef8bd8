#include "epoll_loop.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/log.hpp"
#include "sockets/allowance.hpp"
#include "sockets/serve.hpp"
#include "sockets/sockets.hpp"

EpollLoop::EpollLoop(const Service& service, const Listener& listener, Shared& shared)
    : service_(service),
      listener_(listener),
      shared_(shared),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      accept_again_(deadlines_, TimePoint::max(), nullptr) {
    if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    control(EPOLL_CTL_ADD, listener_.readiness(), nullptr, EPOLLIN);
}

EpollLoop::Conversation::Conversation(Fd accepted, EpollLoop& loop)
    : client(std::move(accepted)),
      session(loop.service_, loop.spare_, peer_name(client.fd.get())),
      allowance(loop.service_.options.idle_timeout, loop.now_),
      list(&loop.resting_),
      deadline(loop.deadlines_, allowance.ends(session, loop.now_), this) {}

void EpollLoop::run() {
    while (!stopped_ || !resting_.empty() || !next_round_.empty()) {
        const std::span<const epoll_event> events = wait_for_events();
        // New clients first: one that finds no room learns that before anything is computed.
        for (const epoll_event& event : events)
            if (!event.data.ptr) accept_all();
        for (std::size_t left = next_round_.size(); left > 0; --left) {
            Conversation& c = next_round_.front();
            move(c, resting_);
            take_turn(c);
        }
        for (const epoll_event& event : events)
            if (event.data.ptr) happened(*static_cast<Conversation*>(event.data.ptr), event.events);
        over_.clear();
        while (const auto due = deadlines_.due(now_)) wake(*due);
    }
}

/// Waits until a socket is ready or a deadline is due.
std::span<const epoll_event> EpollLoop::wait_for_events() {
    const int timeout = next_round_.empty() ? deadlines_.timeout(Clock::now()) : 0;
    const int ready = epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), timeout);
    if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_wait");
    now_ = Clock::now();
    return {events_.data(), static_cast<std::size_t>(std::max(ready, 0))};
}

void EpollLoop::happened(Conversation& c, std::uint32_t events) {
    if (c.list != &resting_) return;  // it has a turn next round, or is over
    if (!c.asleep) return take_turn(c);
    // The request sleeps, so only a reset matters. epoll reports it even when asked for nothing, and would repeat that
    // without end.
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) close(c);
}

/// One client's turn: goes as far as it can without waiting.
void EpollLoop::take_turn(Conversation& c) try {
    if (c.asleep) answer(c, *std::exchange(c.asleep, nullptr));  // its time has come, see wake()
    const int fd = c.client.fd.get();
    for (bool read = false, worked = false;;) {
        switch (c.session.next()) {
            case Next::read:
                // Reads once a turn, and not after work, because the others wait for their turns.
                if (worked || std::exchange(read, true)) return has_read(c);
                if (!came(c.session, fd, room_, recv(fd, room_, sizeof room_, 0))) return park(c, EPOLLIN);
                break;
            case Next::write: {
                const std::string_view output = c.session.output();
                if (!went(c.session, fd, send(fd, output.data(), output.size(), 0))) return park(c, EPOLLOUT);
                c.allowance.renew(now_);
                break;
            }
            case Next::work: {
                if (worked) return next_round(c);  // works once a turn, too
                Work work = c.session.work();
                worked = !std::holds_alternative<Reply>(work);
                if (worked) offer(c.session, fd);  // what is answered does not wait for this
                if (auto* const wait = std::get_if<Wait>(&work)) return sleep(c, std::move(*wait));
                // While this computes, everybody waits: there is one thread.
                const Reply& reply = wait_or_compute(work, shared_, [this] { return shared_.answered(); });
                if (worked) now_ = Clock::now();
                answer(c, reply);
                break;
            }
            case Next::close:
                if (c.allowance.may_close(c.session, fd, now_)) return close(c);
                c.deadline.move(now_ + delivery_pause);
                return watch(c, 0);
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
    close(c);
}

/// This turn has received its share, or has worked. If there is more, epoll reports it again, after the others' turns.
void EpollLoop::has_read(Conversation& c) { park(c, EPOLLIN); }

/// Ends the turn. The client waits until its socket is ready or its time is up.
void EpollLoop::park(Conversation& c, std::uint32_t events) {
    const TimePoint ends = c.allowance.ends(c.session, now_);
    if (now_ >= ends) {
        c.allowance.time_out(c.session, c.client.fd.get(), now_);
        return next_round(c);
    }
    // Each request extends the client's time. The entry in the queue may lag behind, and is moved when it is due: that costs
    // less than moving it at each request.
    if (ends < c.deadline.when() || c.deadline.when() <= now_) c.deadline.move(ends);
    watch(c, events);
}

/// Ends the turn although the client could go on: it does so after the others.
void EpollLoop::next_round(Conversation& c) { move(c, next_round_); }

/// Sleeping holds up nobody. The answer is put aside until its time has come.
void EpollLoop::sleep(Conversation& c, Wait wait) {
    c.asleep = std::make_unique<Reply>(std::move(wait.reply));
    c.deadline.move(Clock::now() + wait.duration);  // not now_: the round may have begun long ago
    watch(c, 0);
}

void EpollLoop::answer(Conversation& c, const Reply& reply) {
    if (reply.counted) shared_.add_one();
    c.session.reply(reply);
    c.allowance.renew(now_);
}

/// A deadline is due: a sleep is over, or a client's time may be up. Without a client, it is time to accept again.
void EpollLoop::wake(Conversation* c) {
    if (!c) {
        accept_again_.move(TimePoint::max());
        return control(EPOLL_CTL_MOD, listener_.readiness(), nullptr, EPOLLIN);
    }
    // The entry stays in the queue, out of the way, until the client's turn moves it. That turn comes next round, so that
    // each client wakes once a round at most, however short it sleeps.
    c->deadline.move(TimePoint::max());
    next_round(*c);
}

/// Accepts every client that is waiting. The accept queue is no longer than SOMAXCONN.
void EpollLoop::accept_all() {
    for (int i = 0; i < SOMAXCONN; ++i) {
        Fd client(stop::leaving() ? -1 : accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        switch (accepted(client)) {
            case Accepted::client: welcome(std::move(client)); break;
            case Accepted::nobody: return;  // EAGAIN: no more for now
            case Accepted::shortage:
                // The client stays in the accept queue, and epoll would report it without end.
                accept_again_.move(now_ + shortage_pause);
                return control(EPOLL_CTL_MOD, listener_.readiness(), nullptr, 0);
            case Accepted::stopped:
                stopped_ = true;
                accept_again_.move(TimePoint::max());
                return control(EPOLL_CTL_DEL, listener_.readiness(), nullptr, 0);
        }
    }
}

void EpollLoop::welcome(Fd client) try {
    if (Client::count() >= service_.options.max_clients) return refuse(client);
    std::list<Conversation> newcomer;
    Conversation& c = newcomer.emplace_back(std::move(client), *this);
    c.place = newcomer.begin();
    begin_to_watch(c);
    resting_.splice(resting_.end(), newcomer);
} catch (const std::exception& why) {
    logging::given_up(why);
}

void EpollLoop::begin_to_watch(Conversation& c) {
    c.interest = EPOLLIN;
    control(EPOLL_CTL_ADD, c.client.fd.get(), &c, EPOLLIN);
}

/// Asks epoll to report these events. No call is needed if it does so already.
void EpollLoop::watch(Conversation& c, std::uint32_t events) {
    if (std::exchange(c.interest, events) != events) control(EPOLL_CTL_MOD, c.client.fd.get(), &c, events);
}

void EpollLoop::control(int operation, int fd, Conversation* c, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.ptr = c}};
    if (epoll_ctl(epoll_.get(), operation, fd, &event) != 0)
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
}

void EpollLoop::close(Conversation& c) {
    // close(2) alone would end the watch only when nobody has the socket any more (epoll(7)). A stop may just use it, if its
    // signal came to another thread.
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, c.client.fd.get(), nullptr);
    c.client.close();
    move(c, over_);
}

void EpollLoop::move(Conversation& c, std::list<Conversation>& list) {
    list.splice(list.end(), *std::exchange(c.list, &list), c.place);
}
