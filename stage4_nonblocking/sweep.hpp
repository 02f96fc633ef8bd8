/// One thread that asks every client in turn.
#pragma once

#include <list>
#include <memory>

#include "deadlines.hpp"
#include "session.hpp"
#include "sockets.hpp"
#include "tasks.hpp"

class Sweep {
   public:
    /// The listener is non-blocking.
    Sweep(const Service& service, const Listener& listener);

    /// Serves until the server stops and every client is gone. Throws std::system_error.
    void run();

   private:
    struct Conversation {
        Conversation(Arrival arrival, const Service& service, TimePoint now);
        Client client;
        Session session;
        Allowance allowance;
        std::unique_ptr<Reply> asleep;  // the answer to a request that waits
        TimePoint wakes;                // until then
    };

    void accept_one();
    bool ask(Conversation& c);
    bool rest(Conversation& c);
    bool carry_out(Conversation& c, Work work);
    void answer(Conversation& c, const Reply& reply);

    const Service& service_;
    const Listener& listener_;
    Tasks tasks_;
    std::uint64_t answered_ = 0;  // one thread: no lock
    std::list<Conversation> conversations_;
    TimePoint now_;  // of this round: a clock read for each client would cost as much as to ask it
    TimePoint accept_again_;
    bool stopped_ = false;
};
