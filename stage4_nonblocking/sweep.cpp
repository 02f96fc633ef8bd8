#include "sweep.hpp"

#include "fib.hpp"

Sweep::Sweep(const Service& service, const Listener& listener)
    : service_(service), listener_(listener), tasks_(service.options.db) {}

Sweep::Conversation::Conversation(Arrival arrival, const Service& service, TimePoint now)
    : client(std::move(arrival.fd), arrival.peer),
      session(service, arrival.peer),
      allowance(service.options.idle_timeout, now) {}

void Sweep::run() {
    while (!stopped_ || !conversations_.empty()) {
        now_ = Clock::now();
        if (!stopped_ && now_ >= accept_again_) accept_one();
        for (auto c = conversations_.begin(); c != conversations_.end();)
            c = ask(*c) ? std::next(c) : conversations_.erase(c);
    }
}

void Sweep::accept_one() {
    Arrival arrival = accept_client(listener_, Mode::nonblocking);
    switch (arrival.outcome) {
        case Accepted::client:
            if (conversations_.size() < static_cast<std::size_t>(service_.options.max_clients))
                conversations_.emplace_back(std::move(arrival), service_, now_);
            else
                refuse(std::move(arrival.fd));
            break;
        case Accepted::nobody: break;  // EAGAIN: none now
        case Accepted::shortage: accept_again_ = now_ + shortage_pause; break;
        case Accepted::stopped: stopped_ = true; break;
    }
}

/// One client's turn: as far as it goes without waiting. False when the conversation is over.
bool Sweep::ask(Conversation& c) {
    if (c.asleep) {
        if (now_ < c.wakes) return true;
        answer(c, *std::exchange(c.asleep, nullptr));
    }
    for (bool has_read = false;;) {
        switch (c.session.next()) {
            case Next::read:
                // recv(2) would block (EAGAIN): another time. Once a turn is enough, for the others wait theirs.
                if (std::exchange(has_read, true) || !recv_into(c.client.fd.get(), c.session)) return rest(c);
                break;
            case Next::write:
                if (!send_from(c.client.fd.get(), c.session)) return rest(c);
                c.allowance.renew(now_);
                break;
            case Next::work:
                if (!carry_out(c, c.session.work())) return true;
                break;
            case Next::close: return false;
        }
    }
}

bool Sweep::rest(Conversation& c) {
    if (now_ >= c.allowance.ends(c.session, now_)) c.session.time_out();
    return true;
}

/// False when the client's turn ends with it, for the others wait theirs.
bool Sweep::carry_out(Conversation& c, Work work) {
    return std::visit(Overloaded{
                          [&](Reply& known) {
                              answer(c, known);
                              return true;
                          },
                          [&](Wait& wait) {
                              // Nobody waits here: the answer is put aside until a later round finds that its time has come.
                              c.asleep = std::make_unique<Reply>(std::move(wait.reply));
                              c.wakes = Clock::now() + wait.duration;  // the round may have begun long ago
                              return false;
                          },
                          [&](Compute& compute) {
                              // Everybody waits here: there is one thread, and it computes.
                              const Reply reply = compute.say(compute.n, fib(compute.n));
                              now_ = Clock::now();  // it took its time
                              answer(c, reply);
                              return false;
                          },
                          [&](Store& store) {
                              answer(c, store.run(tasks_, answered_));
                              return false;
                          },
                      },
                      work);
}

void Sweep::answer(Conversation& c, const Reply& reply) {
    if (reply.counted) ++answered_;
    c.session.reply(reply);
    c.allowance.renew(now_);
}
