/// One thread that rests in epoll_wait(2) until something happens.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "protocol/session.hpp"
#include "shared.hpp"
#include "sockets/allowance.hpp"
#include "sockets/deadlines.hpp"
#include "sockets/sockets.hpp"

/// For one thread. `service`, `listener` and `shared` must outlive it.
class EpollLoop {
   public:
    /// The listener must be non-blocking. Throws std::system_error.
    EpollLoop(const Service& service, const Listener& listener, Shared& shared);
    EpollLoop(const EpollLoop&) = delete;
    EpollLoop& operator=(const EpollLoop&) = delete;
    virtual ~EpollLoop() = default;

    /// Serves clients. Once the server stops or this worker retires, accepts no more, and returns when the last client is
    /// gone. What fails in one conversation ends it alone, and is logged. Throws std::system_error if the loop itself fails.
    void run();

   protected:
    struct Conversation {
        Conversation(Fd accepted, EpollLoop& loop);
        Client client;
        Session session;
        Allowance allowance;
        std::unique_ptr<Reply> asleep;  // the answer to a request that waits
        std::uint32_t interest = 0;     // what epoll was asked to report
        std::list<Conversation>* list;  // the one that it is in, and its place in it
        std::list<Conversation>::iterator place;
        Deadlines<Conversation*>::Entry deadline;  // for a turn without an event: its sleep is over, or its time may be up
    };

    // An edge-triggered loop overrides these.
    virtual void begin_to_watch(Conversation& c);               // tells epoll of a new client
    virtual void watch(Conversation& c, std::uint32_t events);  // has epoll report these, and a reset in any case
    virtual void has_read(Conversation& c);                     // ends a turn after which there may be more to read

    // Each of these two ends a turn. The client waits for these events or for the end of its time, or has a turn next round.
    void park(Conversation& c, std::uint32_t events);
    void next_round(Conversation& c);
    /// epoll_ctl(2). A null `c` stands for the listener. Throws std::system_error.
    void control(int operation, int fd, Conversation* c, std::uint32_t events);

   private:
    std::span<const epoll_event> wait_for_events();
    void accept_all();
    void welcome(Fd client);
    void happened(Conversation& c, std::uint32_t events);
    void wake(Conversation* c);
    void take_turn(Conversation& c);
    void sleep(Conversation& c, Wait wait);
    void answer(Conversation& c, const Reply& reply);
    void close(Conversation& c);
    void move(Conversation& c, std::list<Conversation>& list);

    const Service& service_;
    const Listener& listener_;
    Shared& shared_;
    Spare spare_;
    char room_[4096];  // where bytes are received
    Fd epoll_;
    std::array<epoll_event, 256> events_;
    Deadlines<Conversation*> deadlines_;
    Deadlines<Conversation*>::Entry accept_again_;  // the listener's, after a shortage
    // Each conversation is in one of these lists. Moving it to another takes no memory.
    std::list<Conversation> resting_;
    std::list<Conversation> next_round_;  // these have a turn then, whatever epoll reports
    std::list<Conversation> over_;        // closed, but one of this round's events may still point to them
    TimePoint now_;                       // when this round began, or its last work ended
    bool stopped_ = false;
};
