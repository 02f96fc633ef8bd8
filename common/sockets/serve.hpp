/// The blocking conversation, which several stages share. They differ in what runs it: a process, thread or coroutine.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <string_view>
#include <thread>

#include "base/fib.hpp"
#include "protocol/session.hpp"
#include "protocol/work.hpp"
#include "sockets/allowance.hpp"
#include "sockets/sockets.hpp"

/// Whether accept4(2) has just returned a client; errno must still be that of the call. If not, waits until a client can be
/// accepted or the process is to accept no more. While descriptors or memory are short, waits for shortage_pause. A signal
/// ends the wait. If several processes share the listener, it must be non-blocking: another one may take the client between
/// poll(2) and accept4(2). Throws std::system_error.
bool accepted(const Fd& client, const Listener& listener);

/// An Allowance for a blocking socket. The kernel's own time-outs (SO_RCVTIMEO and SO_SNDTIMEO, socket(7)) end the waits;
/// the one for recv(2) is shortened when part of the time is spent.
class IdleTimer {
   public:
    /// `idle`: the idle time-out; zero means for ever.
    IdleTimer(int fd, std::chrono::nanoseconds idle);
    void renew() noexcept { allowance_.renew(Clock::now()); }
    /// Sets the time-out of the recv(2) that follows, at most an eighth too long. False if no time is left.
    bool before_recv(const Session& session);
    void time_out(Session& session) { allowance_.time_out(session, fd_, Clock::now()); }
    bool may_close(const Session& session) noexcept { return allowance_.may_close(session, fd_, Clock::now()); }

   private:
    int fd_;
    Allowance allowance_;
    std::chrono::nanoseconds set_;
};

/// Waits before the next check whether the client has received everything.
inline void rest(int /*fd*/, std::chrono::nanoseconds time) { std::this_thread::sleep_for(time); }

/// Serves one client to the end in the calling thread, which blocks whenever it must wait. Then the caller closes the
/// connection. `carry_out(work)` makes the Work a Reply. An exception, such as std::bad_alloc, ends this conversation alone:
/// it is logged, not thrown on. A Socket is a descriptor, or a type that converts to one and has recv, send and rest
/// functions of its own (stage 6).
template <class Socket = int, class CarryOut>
void serve(const Client& client, const Service& service, Spare& spare, CarryOut carry_out) try {
    const Socket fd{client.fd.get()};
    Session session(service, spare, peer_name(fd));
    IdleTimer idle_timer(fd, service.options.idle_timeout);
    char room[1024];  // small, because each client has a stack, and a larger buffer might use one more page of it
    for (;;) {
        switch (session.next()) {
            case Next::read:
                if (!idle_timer.before_recv(session) || !came(session, fd, room, recv(fd, room, sizeof room, 0)))
                    idle_timer.time_out(session);
                break;
            case Next::write: {
                const std::string_view output = session.output();
                if (!went(session, fd, send(fd, output.data(), output.size(), 0))) idle_timer.time_out(session);
                idle_timer.renew();
                break;
            }
            case Next::work: {
                Work work = session.work();
                if (!std::holds_alternative<Reply>(work)) offer(session, fd);  // ready replies do not wait for this work
                carry_out(work);
                session.reply(std::get<Reply>(work));
                break;
            }
            case Next::close:
                if (idle_timer.may_close(session)) return;
                rest(fd, delivery_pause);
                break;
        }
    }
} catch (const std::exception& why) {
    logging::given_up(why);
}

/// The same, with a Spare of its own.
template <class CarryOut>
void serve(const Client& client, const Service& service, CarryOut carry_out) {
    Spare spare;
    serve(client, service, spare, std::move(carry_out));
}

/// Carries work out in the calling thread, which sleeps, computes and asks the database itself. Afterwards the work is a
/// Reply. The stages differ in what their clients share, so they pass that in: `tasks.ask(query)` returns the database's
/// answer, `answered()` the count.
template <class Database, class Answered>
const Reply& wait_or_compute(Work& work, Database& tasks, Answered answered) {
    while (auto* const store = std::get_if<Store>(&work)) work = store->answered(tasks.ask(store->query));
    if (auto* const count = std::get_if<Count>(&work)) work = count->say(answered());
    if (auto* const compute = std::get_if<Compute>(&work)) work = compute->say(compute->n, fib(compute->n));
    if (auto* const wait = std::get_if<Wait>(&work)) {
        std::this_thread::sleep_for(wait->duration);
        work = std::move(wait->reply);
    }
    return std::get<Reply>(work);
}
