/// One thread that rests in epoll_wait(2) until something happens.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "deadlines.hpp"
#include "room.hpp"
#include "session.hpp"
#include "sockets.hpp"
#include "tasks.hpp"

/// When epoll reports a socket (epoll(7)).
enum class Trigger : std::uint8_t {
    level,  ///< as long as it can be read or written: what is left over is reported again
    /// Once, when it becomes so. What is left over is not reported again, unless more comes, so a socket must be read, or
    /// written, until the call would block (EAGAIN), or be remembered. In return epoll need not be told what is waited for.
    edge
};

class EpollLoop {
   public:
    /// The listener is non-blocking. Throws std::system_error.
    EpollLoop(const Service& service, const Listener& listener, Trigger trigger);

    /// Serves until the server stops and every client is gone. Throws std::system_error.
    void run();

   private:
    /// What an event is about. Never used again, unlike a descriptor: a late event can't reach a newcomer.
    using Id = std::uint64_t;

    struct Conversation {
        Conversation(Arrival arrival, EpollLoop& loop, Id id);
        Client client;
        Session session;
        Allowance allowance;
        std::unique_ptr<Reply> asleep;  // the answer to a request that waits
        bool in_again = false;          // has a turn next round, whatever epoll says
        std::uint32_t interest;         // what epoll was asked to report
        Deadlines<Id>::Entry deadline;  // when it wakes, or may have been waited for long enough
    };

    void go_on(Id id);
    void handle(Id id, std::uint32_t events);
    void wake(Id id);
    void accept_some();
    void welcome(Arrival arrival);
    void drive(Id id, Conversation& c, bool may_read);
    void again(Id id, Conversation& c);
    void rest(Id id, Conversation& c, std::uint32_t events);
    bool carry_out(Conversation& c, Work work);
    void answer(Conversation& c, const Reply& reply);
    void watch(Id id, Conversation& c, std::uint32_t events);
    void control(int operation, int fd, Id id, std::uint32_t events);
    void close(Id id);

    const Service& service_;
    const Listener& listener_;
    const bool edge_;
    Tasks tasks_;
    std::array<char, 4096> input_;  // for all clients
    Buffers buffers_{input_};
    std::uint64_t answered_ = 0;  // one thread: no lock
    Fd epoll_;
    Deadlines<Id> deadlines_;
    std::unordered_map<Id, Conversation> conversations_;
    Deadlines<Id>::Entry accept_again_;  // the listener's
    std::vector<Id> again_;              // whose turn ended although there was more to do
    std::vector<Id> unfinished_;         // they, when they go on
    Id next_id_;
    TimePoint now_;  // of this round
    Storm storm_;
    bool stopped_ = false;
};
