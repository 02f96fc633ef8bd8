/// One thread that asks every client in turn.
#pragma once

#include <array>
#include <list>
#include <memory>
#include <vector>

#include "deadlines.hpp"
#include "rest.hpp"
#include "room.hpp"
#include "session.hpp"
#include "sockets.hpp"
#include "tasks.hpp"

class Sweep {
   public:
    /// The listener is non-blocking.
    Sweep(const Service& service, const Listener& listener, const Rest& rest);

    /// Serves until the server stops and every client is gone. Throws std::system_error.
    void run();

   private:
    struct Conversation {
        Conversation(Arrival arrival, const Service& service, Buffers& buffers, TimePoint now);
        Client client;
        Session session;
        Allowance allowance;
        std::unique_ptr<Reply> asleep;  // the answer to a request that waits
        // To be asked when one of these may be, or when the time has come.
        short events = POLLIN;
        TimePoint until;
    };

    void rest();
    void accept_one();
    void welcome(Arrival arrival);
    void cannot_watch(Fd client);
    void ask_those_named();
    bool ask(Conversation& c, bool may_read);
    void put_aside(Conversation& c, short events);
    bool carry_out(Conversation& c, Work work);
    void answer(Conversation& c, const Reply& reply);

    const Service& service_;
    const Listener& listener_;
    const Rest& rest_;
    Tasks tasks_;
    std::array<char, 4096> input_;  // for all clients
    Buffers buffers_{input_};
    std::uint64_t answered_ = 0;  // one thread: no lock
    std::list<Conversation> conversations_;
    std::vector<pollfd> sockets_;   // the listener's, and each conversation's in their order
    TimePoint now_ = Clock::now();  // of this round: a clock read for each client would cost as much as to ask it
    TimePoint accept_again_ = now_;
    Storm storm_;
    bool stopped_ = false;
    bool told_ = false;  // that a descriptor was past what can be watched; once is enough
};
