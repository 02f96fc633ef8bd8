/// A conversation with calls that wait: what several stages share. Who runs it is their difference.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <thread>

#include "fib.hpp"
#include "session.hpp"
#include "sockets.hpp"
#include "work.hpp"

/// Waits for a client and takes it; nothing once none is to be accepted any more. The listener may block or not, but where
/// several processes share it, it must not: another may take the client between poll(2) and accept(2). While descriptors or
/// memory are short, waits for better times. Throws std::system_error.
std::optional<Client> next_client(const Listener& listener);

/// How long a client is waited for, on a blocking socket: the kernel's own time-outs (SO_RCVTIMEO, socket(7)), shortened
/// where part of the time is spent, so that a byte now and then buys no client more of it.
class Patience {
   public:
    /// `idle`: zero for ever.
    Patience(int fd, std::chrono::nanoseconds idle);
    /// A request was completed, or a reply taken: the time begins anew.
    void renew();
    /// Sets the time-out of the recv(2) that follows; false where no time is left.
    bool before_recv(const Session& session);

   private:
    using Clock = std::chrono::steady_clock;

    int fd_;
    std::chrono::nanoseconds idle_;
    std::chrono::nanoseconds set_;
    Clock::time_point ends_ = Clock::time_point::max();
    bool fresh_ = true;  // all of the time is left
    bool farewell_ = false;
};

/// Serves one client to the end, in the calling thread, waiting wherever there is something to wait for. `carry_out` is
/// given each piece of Work and returns its Reply. What can't be helped, as where no memory is left, ends this conversation
/// alone: it is logged, and not thrown. The buffers are those of the thread.
template <class CarryOut>
void serve(const Client& client, const Service& service, Buffers& buffers, CarryOut carry_out) try {
    const int fd = client.fd.get();
    Session session(service, buffers, client.peer);
    Patience patience(fd, service.options.idle_timeout);
    for (;;) {
        switch (session.next()) {
            case Next::read:
                if (!patience.before_recv(session) || !recv_into(fd, session)) session.time_out();
                break;
            case Next::write:
                if (!send_from(fd, session)) session.time_out();
                patience.renew();
                break;
            case Next::work: session.reply(carry_out(session.work())); break;
            case Next::close: return;
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
}

/// ... with buffers of its own. Where each client has a process or a thread, the stack is most of what he costs, and a
/// thousand bytes decide on another page of it.
template <class CarryOut>
void serve(const Client& client, const Service& service, CarryOut carry_out) {
    std::array<char, 1024> input;
    Buffers buffers{input};
    serve(client, service, buffers, std::move(carry_out));
}

/// Carries work out in the calling thread, which waits and computes by itself; what touches the shared tasks or the count is
/// left to `on_store`, because that is where the stages differ.
template <class OnStore>
Reply wait_or_compute(Work work, OnStore on_store) {
    return std::visit(Overloaded{
                          [](Reply& known) { return std::move(known); },
                          [](Wait& wait) {
                              std::this_thread::sleep_for(wait.duration);
                              return std::move(wait.reply);
                          },
                          [](Compute& compute) { return compute.say(compute.n, fib(compute.n)); },
                          [&](Store& store) { return on_store(store); },
                      },
                      work);
}
