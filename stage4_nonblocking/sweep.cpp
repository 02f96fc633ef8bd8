#include "sweep.hpp"

#include "fib.hpp"
#include "log.hpp"

Sweep::Sweep(const Service& service, const Listener& listener, const Rest& rest)
    : service_(service), listener_(listener), rest_(rest), tasks_(service.options.db) {}

Sweep::Conversation::Conversation(Arrival arrival, const Service& service, Buffers& buffers, TimePoint now)
    : client(std::move(arrival.fd), arrival.peer),
      session(service, buffers, arrival.peer),
      allowance(service.options.idle_timeout, now),
      until(now) {}

void Sweep::run() {
    while (!stopped_ || !conversations_.empty()) {
        rest();
        if (sockets_[0].revents != 0) accept_one();
        ask_those_named();
        storm_.may_have_passed(conversations_.size(), sockets_);
    }
}

/// Collects what everybody waits for, and waits for it, if at all.
void Sweep::rest() {
    sockets_.clear();
    const bool accepting = !stopped_ && now_ >= accept_again_;
    sockets_.push_back({.fd = accepting ? listener_.get() : -1, .events = POLLIN, .revents = 0});
    TimePoint until = stopped_ || accepting ? TimePoint::max() : accept_again_;
    for (const Conversation& c : conversations_) {
        // Who waits for no event is left out: poll(2) reports a reset even to those who ask for nothing, without end.
        sockets_.push_back({.fd = c.events != 0 ? c.client.fd.get() : -1, .events = c.events, .revents = 0});
        until = std::min(until, c.until);
    }
    rest_.wait(sockets_, until);
    now_ = Clock::now();
}

void Sweep::accept_one() {
    Arrival arrival = accept_client(listener_, Mode::nonblocking);
    switch (arrival.outcome) {
        case Accepted::client:
            if (arrival.fd.get() >= rest_.descriptors)
                cannot_watch(std::move(arrival.fd));
            else if (conversations_.size() >= static_cast<std::size_t>(service_.options.max_clients))
                refuse(std::move(arrival.fd));
            else
                welcome(std::move(arrival));
            break;
        case Accepted::nobody: break;  // EAGAIN: none now
        case Accepted::shortage: accept_again_ = now_ + shortage_pause; break;
        case Accepted::stopped: stopped_ = true; break;
    }
}

void Sweep::welcome(Arrival arrival) {
    try {
        // Room in the list of sockets as well, so that the loop itself needs no memory.
        make_room(sockets_, conversations_.size() + 2);
        conversations_.emplace_back(std::move(arrival), service_, buffers_, now_);
    } catch (const std::exception& shortage) {
        refuse(std::move(arrival.fd), shortage.what());
    }
}

void Sweep::cannot_watch(Fd client) {
    if (!std::exchange(told_, true))
        logging::error("select(2) watches descriptors below {} alone (FD_SETSIZE): further clients are refused",
                       rest_.descriptors);
    refuse(std::move(client));
}

void Sweep::ask_those_named() {
    std::size_t i = 0;
    for (auto c = conversations_.begin(); c != conversations_.end();) {
        // One who came in this round is not in the list yet.
        const bool named = ++i < sockets_.size() && sockets_[i].revents != 0;
        const bool over = (named || now_ >= c->until) && !ask(*c, named);
        c = over ? conversations_.erase(c) : std::next(c);
    }
}

/// One client's turn: as far as it goes without waiting. False when the conversation is over.
bool Sweep::ask(Conversation& c, bool may_read) try {
    if (c.asleep) answer(c, *std::exchange(c.asleep, nullptr));
    for (bool worked = false;;) {
        switch (c.session.next()) {
            case Next::read:
                // recv(2) would block (EAGAIN): another time. Once a turn is enough, for the others wait theirs.
                if (!std::exchange(may_read, false) || !recv_into(c.client.fd.get(), c.session)) {
                    put_aside(c, POLLIN);
                    return true;
                }
                break;
            case Next::write:
                if (!send_from(c.client.fd.get(), c.session)) {
                    put_aside(c, POLLOUT);
                    return true;
                }
                c.allowance.renew(now_);
                break;
            case Next::work:
                // Once a turn as well. The turn ends before the next one, not after this: a client who asked for no more has
                // his answer now.
                if (worked) return true;
                worked = carry_out(c, c.session.work());
                if (c.asleep) return true;
                break;
            case Next::close: return false;
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
    return false;
}

/// Until the socket can go on, or the client was waited for long enough.
void Sweep::put_aside(Conversation& c, short events) {
    c.events = events;
    c.until = c.allowance.ends(c.session, now_);
    if (now_ >= c.until) c.session.time_out();
}

/// Whether it took time: the others wait theirs.
bool Sweep::carry_out(Conversation& c, Work work) {
    c.events = 0;
    c.until = now_;  // unless the work says otherwise: next round
    return std::visit(Overloaded{
                          [&](Reply& known) {
                              answer(c, known);
                              return false;
                          },
                          [&](Wait& wait) {
                              // Nobody waits here: the answer is put aside until a later round finds that its time has come.
                              c.asleep = std::make_unique<Reply>(std::move(wait.reply));
                              c.until = Clock::now() + wait.duration;  // the round may have begun long ago
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

void Sweep::answer(Conversation& c, const Reply& reply) {
    if (reply.counted) ++answered_;
    c.session.reply(reply);
    c.allowance.renew(now_);
}
