/// One thread that asks every client in turn.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "protocol/session.hpp"
#include "rest.hpp"
#include "sockets/allowance.hpp"
#include "sockets/deadlines.hpp"
#include "sockets/sockets.hpp"
#include "tasks/tasks.hpp"

class Sweep {
   public:
    /// The listener must be non-blocking. All three must outlive the Sweep.
    Sweep(const Service& service, const Listener& listener, const Rest& rest);

    /// Serves until the server stops and every client is gone. Throws std::system_error or std::bad_alloc.
    void run();

   private:
    struct Conversation {
        Conversation(Fd accepted, Sweep& sweep);
        Client client;
        Session session;
        Allowance allowance;
        std::unique_ptr<Reply> asleep;  // the answer to a request that waits
        // It has a turn when one of these happens, or at `until`.
        short events = POLLIN;
        TimePoint until;
    };

    void wait_for_events();
    void accept_all();
    void welcome(Fd client);
    bool take_turn(Conversation& c, bool may_read);
    bool park(Conversation& c, short events);
    bool next_round(Conversation& c);
    bool sleep(Conversation& c, Wait wait);
    void answer(Conversation& c, const Reply& reply);

    const Service& service_;
    const Listener& listener_;
    const Rest& rest_;
    Tasks tasks_;
    Spare spare_;
    char room_[4096];             // where bytes are received
    std::uint64_t answered_ = 0;  // one thread: no lock
    std::list<Conversation> conversations_;
    std::vector<pollfd> sockets_;   // the listener's, then each conversation's, in their order
    TimePoint now_ = Clock::now();  // of this round: reading the clock for each client would cost as much as asking it
    TimePoint accept_again_ = now_;
    bool stopped_ = false;
    bool told_ = false;  // whether the log was told that a descriptor is too high
};
