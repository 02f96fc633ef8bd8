#include "sweep.hpp"

#include <sys/socket.h>

#include <span>

#include "base/log.hpp"
#include "sockets/allowance.hpp"
#include "sockets/serve.hpp"
#include "sockets/sockets.hpp"

Sweep::Sweep(const Service& service, const Listener& listener, const Rest& rest)
    : service_(service), listener_(listener), rest_(rest), tasks_(service.options.db) {}

Sweep::Conversation::Conversation(Fd accepted, Sweep& sweep)
    : client(std::move(accepted)),
      session(sweep.service_, sweep.spare_, peer_name(client.fd.get())),
      allowance(sweep.service_.options.idle_timeout, sweep.now_),
      until(allowance.ends(session, sweep.now_)) {}

void Sweep::run() {
    while (!stopped_ || !conversations_.empty()) {
        wait_for_events();
        if (sockets_[0].revents != 0) accept_all();
        auto c = conversations_.begin();
        for (const pollfd& socket : std::span(sockets_).subspan(1)) {
            const bool named = socket.revents != 0;
            const bool over = (named || now_ >= c->until) && !take_turn(*c, named);
            c = over ? conversations_.erase(c) : std::next(c);
        }
    }
}

/// Collects what every client waits for. Then waits until a socket is ready or a deadline is due (spin: not at all).
void Sweep::wait_for_events() {
    const bool accepting = !stopped_ && now_ >= accept_again_;
    TimePoint until = stopped_ || accepting ? TimePoint::max() : accept_again_;
    sockets_.assign(1, {.fd = accepting ? listener_.get() : -1, .events = POLLIN, .revents = 0});
    for (const Conversation& c : conversations_) {
        // poll(2) reports a reset even if it is asked for no events.
        sockets_.push_back({.fd = c.client.fd.get(), .events = c.events, .revents = 0});
        until = std::min(until, c.until);
    }
    rest_.wait(sockets_, until);
    now_ = Clock::now();
}

/// Accepts every client that is waiting, before any client has its turn. The accept queue is no longer than SOMAXCONN.
void Sweep::accept_all() {
    for (int i = 0; i < SOMAXCONN; ++i) {
        Fd client(stop::leaving() ? -1 : accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        switch (accepted(client)) {
            case Accepted::client: welcome(std::move(client)); break;
            case Accepted::nobody: return;  // EAGAIN: no more for now
            case Accepted::shortage: accept_again_ = now_ + shortage_pause; return;
            case Accepted::stopped: stopped_ = true; return;
        }
    }
}

void Sweep::welcome(Fd client) try {
    const bool watched = client.get() < rest_.descriptors;
    if (!watched && !std::exchange(told_, true))
        logging::error("select(2) watches only descriptors below {} (FD_SETSIZE): further clients are refused",
                       rest_.descriptors);
    if (!watched || Client::count() >= service_.options.max_clients) return refuse(client);
    conversations_.emplace_back(std::move(client), *this);
} catch (const std::exception& why) {
    logging::given_up(why);
}

/// One client's turn: goes as far as it can without waiting. False when the conversation is over.
bool Sweep::take_turn(Conversation& c, bool may_read) try {
    if (c.asleep && now_ < c.until) return false;  // woken early by a reset: nobody wants the answer now
    if (c.asleep) answer(c, *std::exchange(c.asleep, nullptr));
    const int fd = c.client.fd.get();
    for (bool worked = false;;) {
        switch (c.session.next()) {
            case Next::read:
                // Reads once a turn, and not after work, because the others wait for their turns.
                if (worked || !std::exchange(may_read, false)) return park(c, POLLIN);
                if (!came(c.session, fd, room_, recv(fd, room_, sizeof room_, 0))) return park(c, POLLIN);
                break;
            case Next::write: {
                const std::string_view output = c.session.output();
                if (!went(c.session, fd, send(fd, output.data(), output.size(), 0))) return park(c, POLLOUT);
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
                const Reply& reply = wait_or_compute(work, tasks_, [this] { return answered_; });
                if (worked) now_ = Clock::now();
                answer(c, reply);
                break;
            }
            case Next::close:
                if (c.allowance.may_close(c.session, fd, now_)) return false;
                c.events = 0;
                c.until = now_ + delivery_pause;
                return true;
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
    return false;
}

/// Ends the turn. The client waits until its socket is ready or its time is up.
bool Sweep::park(Conversation& c, short events) {
    c.events = events;
    c.until = c.allowance.ends(c.session, now_);
    if (now_ >= c.until) c.allowance.time_out(c.session, c.client.fd.get(), now_);
    return true;
}

/// Ends the turn although the client could go on: it does so after the others.
bool Sweep::next_round(Conversation& c) {
    c.events = 0;
    c.until = now_;
    return true;
}

/// Sleeping holds up nobody. The answer is put aside until a later round finds that its time has come.
bool Sweep::sleep(Conversation& c, Wait wait) {
    c.asleep = std::make_unique<Reply>(std::move(wait.reply));
    c.events = 0;
    c.until = Clock::now() + wait.duration;  // not now_: the round may have begun long ago
    return true;
}

void Sweep::answer(Conversation& c, const Reply& reply) {
    if (reply.counted) ++answered_;
    c.session.reply(reply);
    c.allowance.renew(now_);
}
