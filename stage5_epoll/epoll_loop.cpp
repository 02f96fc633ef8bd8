#include "epoll_loop.hpp"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "fib.hpp"
#include "log.hpp"

namespace {

constexpr std::uint64_t listener_id = 0;
constexpr int arrivals_at_once = 64;

}  // namespace

EpollLoop::EpollLoop(const Service& service, const Listener& listener, Trigger trigger)
    : service_(service),
      listener_(listener),
      edge_(trigger == Trigger::edge),
      tasks_(service.options.db),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      accept_again_(deadlines_, TimePoint::max(), listener_id),
      next_id_(listener_id + 1) {
    if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    // The listener is level-triggered in any case: clients are accepted some at a time, and the rest reported again.
    control(EPOLL_CTL_ADD, listener_.readiness(), listener_id, EPOLLIN);
}

EpollLoop::Conversation::Conversation(Arrival arrival, EpollLoop& loop, Id id)
    : client(std::move(arrival.fd), arrival.peer),
      session(loop.service_, loop.buffers_, arrival.peer),
      allowance(loop.service_.options.idle_timeout, loop.now_),
      interest(EPOLLIN),
      deadline(loop.deadlines_, allowance.ends(session, loop.now_), id) {}

void EpollLoop::run() {
    std::array<epoll_event, 256> events;
    while (!stopped_ || !conversations_.empty()) {
        const int timeout = again_.empty() ? deadlines_.timeout(Clock::now()) : 0;
        const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
        if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_wait");
        now_ = Clock::now();
        again_.swap(unfinished_);  // both keep their room
        for (const Id id : unfinished_) go_on(id);
        unfinished_.clear();
        for (int i = 0; i < ready; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            event.data.u64 == listener_id ? accept_some() : handle(event.data.u64, event.events);
        }
        while (const auto id = deadlines_.due(now_)) wake(*id);
        storm_.may_have_passed(conversations_.size(), conversations_, again_, unfinished_);
    }
}

void EpollLoop::go_on(Id id) {
    Conversation& c = conversations_.find(id)->second;
    c.in_again = false;
    // What has come for it since its last turn, level-triggered epoll reports.
    drive(id, c, edge_);
}

void EpollLoop::handle(Id id, std::uint32_t events) {
    const auto found = conversations_.find(id);
    if (found == conversations_.end()) return;  // closed earlier in this round
    Conversation& c = found->second;
    if (c.in_again) return;  // had its turn
    if (!c.asleep) return drive(id, c, true);
    // While its request waits, epoll was asked for nothing, and reports only what it always does: the client has reset the
    // connection. Left alone it would report so without end.
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) close(id);
}

/// A client's turn: as far as it goes without waiting.
void EpollLoop::drive(Id id, Conversation& c, bool may_read) try {
    if (c.asleep) answer(c, *std::exchange(c.asleep, nullptr));  // its time has come, see wake()
    for (bool worked = false;;) {
        switch (c.session.next()) {
            case Next::read:
                // Once a turn is enough. If there is more, level-triggered epoll tells again, after the others' turns. Of
                // the edge we were told: it is for us to come back until recv(2) would block.
                if (!may_read && edge_) return again(id, c);
                if (!std::exchange(may_read, false) || !recv_into(c.client.fd.get(), c.session)) return rest(id, c, EPOLLIN);
                break;
            case Next::write:
                if (!send_from(c.client.fd.get(), c.session)) return rest(id, c, EPOLLOUT);
                c.allowance.renew(now_);
                break;
            case Next::work:
                // Once a turn as well. The turn ends before the next one, not after this: a client who asked for no more has
                // his answer now.
                if (worked) return again(id, c);
                worked = carry_out(c, c.session.work());
                if (c.asleep) return watch(id, c, 0);
                break;
            case Next::close: return close(id);
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
    close(id);
}

/// Its turn has ended although it could go on: next round, after the others.
void EpollLoop::again(Id id, Conversation& c) {
    c.in_again = true;
    again_.push_back(id);
}

/// Until the socket can go on, or the client was waited for long enough.
void EpollLoop::rest(Id id, Conversation& c, std::uint32_t events) {
    const TimePoint ends = c.allowance.ends(c.session, now_);
    if (now_ >= ends) {
        c.session.time_out();
        return again(id, c);
    }
    // The entry may lie before the time that counts: requests have moved that on. When it is due, it is moved as well, which
    // is cheaper than to do so at each request.
    if (ends < c.deadline.when() || c.deadline.when() <= now_) c.deadline.move(ends);
    watch(id, c, events);
}

/// Whether it took time: the others wait theirs.
bool EpollLoop::carry_out(Conversation& c, Work work) {
    return std::visit(Overloaded{
                          [&](Reply& known) {
                              answer(c, known);
                              return false;
                          },
                          [&](Wait& wait) {
                              // Nobody waits here: the answer is put aside until its time has come.
                              c.asleep = std::make_unique<Reply>(std::move(wait.reply));
                              c.deadline.move(Clock::now() + wait.duration);  // the round may have begun long ago
                              return true;
                          },
                          [&](Compute& compute) {
                              // Everybody waits here: there is one thread, and it computes.
                              const Reply reply = compute.say(compute.n, fib(compute.n));
                              now_ = Clock::now();  // it took its time
                              answer(c, reply);
                              return true;
                          },
                          [&](Store& store) {
                              answer(c, store.run(tasks_, answered_));
                              return true;
                          },
                      },
                      work);
}

void EpollLoop::answer(Conversation& c, const Reply& reply) {
    if (reply.counted) ++answered_;
    c.session.reply(reply);
    c.allowance.renew(now_);
}

/// A deadline is due: a sleeper's reply, or a client who may have been waited for long enough.
void EpollLoop::wake(Id id) {
    if (id == listener_id) {
        accept_again_.move(TimePoint::max());
        return control(EPOLL_CTL_MOD, listener_.readiness(), listener_id, EPOLLIN);
    }
    Conversation& c = conversations_.find(id)->second;
    // It stays in the queue, out of the way; rest() gives it its next time. The client's turn comes next round: one that
    // sleeps for no time at all would be due again in this one, for ever.
    c.deadline.move(TimePoint::max());
    if (!c.in_again) again(id, c);
}

void EpollLoop::accept_some() {
    for (int i = 0; i < arrivals_at_once; ++i) {
        Arrival arrival = accept_client(listener_, Mode::nonblocking);
        switch (arrival.outcome) {
            case Accepted::client: welcome(std::move(arrival)); break;
            case Accepted::nobody: return;  // EAGAIN: no more for now
            case Accepted::shortage:
                // The client stays in the queue, and level-triggered epoll would report it without end. To ask for nothing
                // needs no memory now, nor to ask again.
                accept_again_.move(now_ + shortage_pause);
                return control(EPOLL_CTL_MOD, listener_.readiness(), listener_id, 0);
            case Accepted::stopped:
                stopped_ = true;
                accept_again_.move(TimePoint::max());
                return control(EPOLL_CTL_DEL, listener_.readiness(), listener_id, 0);
        }
    }
}

void EpollLoop::welcome(Arrival arrival) {
    if (conversations_.size() >= static_cast<std::size_t>(service_.options.max_clients))
        return refuse(std::move(arrival.fd));
    const Id id = next_id_++;
    try {
        // Room among those whose turn ends early as well, so that the loop itself needs no memory.
        make_room(again_, conversations_.size() + 1);
        make_room(unfinished_, conversations_.size() + 1);
        Conversation& c = conversations_.try_emplace(id, std::move(arrival), *this, id).first->second;
        control(EPOLL_CTL_ADD, c.client.fd.get(), id, edge_ ? EPOLLIN | EPOLLOUT | EPOLLET : c.interest);
    } catch (const std::exception& shortage) {
        conversations_.erase(id);
        refuse(std::move(arrival.fd), shortage.what());
    }
}

/// Asks epoll for these events; no call where it was asked for them before, nor where it tells every edge once.
void EpollLoop::watch(Id id, Conversation& c, std::uint32_t events) {
    if (!edge_ && std::exchange(c.interest, events) != events) control(EPOLL_CTL_MOD, c.client.fd.get(), id, events);
}

void EpollLoop::control(int operation, int fd, Id id, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.u64 = id}};
    if (epoll_ctl(epoll_.get(), operation, fd, &event) != 0)
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
}

void EpollLoop::close(Id id) {
    conversations_.erase(id);  // epoll forgets a descriptor that is closed, if no other process has it (epoll(7))
}
