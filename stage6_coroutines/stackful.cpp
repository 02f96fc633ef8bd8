#include "stackful.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <system_error>

#include "accept.hpp"
#include "fiber.hpp"
#include "log.hpp"
#include "serve.hpp"

Stackful::Stackful(const Service& service, const Listener& listener)
    : service_(service), listener_(listener), tasks_(service.options.db) {}

void Stackful::run() {
    const auto arrived = [this](Client client) { return converse(std::move(client)); };
    loop_.spawn(accept_clients(loop_, listener_, service_.options.max_clients, arrived));
    loop_.run();
}

/// serve() runs on a stack of its own, and knows nothing of it. Where a call of it would block, further down on this page,
/// the fiber says what it waits for and is put aside; this coroutine, which the loop knows, waits in its stead.
Co<void> Stackful::converse(Client client) {
    std::optional<Socket> watched;
    std::optional<Fiber> fiber;
    try {
        watched.emplace(loop_, client.fd.get());
        fiber.emplace([&] { serve(client, service_, buffers_, [this](Work work) { return carry_out(std::move(work)); }); });
    } catch (const std::exception& shortage) {  // no memory for a stack
        refuse(std::move(client), shortage.what());
        co_return;
    }
    while (fiber->resume()) {
        const Wish wish = fiber->wish();
        bool happened = false;
        try {
            happened = co_await watched->event(wish.events, wish.until);
        } catch (const std::system_error& why) {  // it can't be watched: to serve() its time is up
            logging::trouble("A client cannot be waited for", why.what());
        }
        fiber->grant(happened);
    }
}

/// As in stage 1. A fib stalls everybody: there is one thread, and to compute is not to call something that waits.
Reply Stackful::carry_out(Work work) {
    const bool known = std::holds_alternative<Reply>(work);
    Reply reply = wait_or_compute(std::move(work), [this](Store& store) { return store.run(tasks_, answered_); });
    if (reply.counted) ++answered_;
    if (!known) Fiber::running()->wait({.events = 0, .until = Clock::now()});  // the others' turn: gevent.sleep(0)
    return reply;
}

// --- the calls that block -----------------------------------------------------------------------------------------------
//
// serve() calls recv(2), send(2) and, to wait, nanosleep(2), by way of common/. A program's own function of that name comes
// before the C library's, so it is these that are called, in the whole of this program, and on a fiber they let the others
// run instead of blocking the thread. gevent calls that monkey patching. Hidden, so that libraries keep the real ones:
// SQLite must not be left in the middle of a transaction for someone else to enter.

#define INSTEAD extern "C" __attribute__((visibility("hidden")))

namespace {

/// The socket's own time-out, which the kernel heeds only where it does the waiting: SO_RCVTIMEO or SO_SNDTIMEO (socket(7)).
TimePoint time_out_of(int fd, int option) noexcept {
    timeval limit{};
    socklen_t size = sizeof limit;
    getsockopt(fd, SOL_SOCKET, option, &limit, &size);
    const auto time = std::chrono::seconds(limit.tv_sec) + std::chrono::microseconds(limit.tv_usec);
    return time.count() == 0 ? TimePoint::max() : Clock::now() + time;
}

ssize_t receive(int fd, void* buffer, std::size_t size, int flags) noexcept {
    return syscall(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr);
}

}  // namespace

INSTEAD ssize_t recv(int fd, void* buffer, std::size_t size, int flags) {
    Fiber* const fiber = Fiber::running();
    if (!fiber || (flags & MSG_DONTWAIT) != 0) return receive(fd, buffer, size, flags);
    const TimePoint until = time_out_of(fd, SO_RCVTIMEO);
    for (;;) {
        // Even where bytes are there already: a client who never stops sending would be the only one to be served.
        if (!fiber->wait({.events = EPOLLIN, .until = until})) return errno = EAGAIN, -1;
        const ssize_t received = receive(fd, buffer, size, flags | MSG_DONTWAIT);
        if (received >= 0 || errno != EAGAIN) return received;
    }
}

/// What a call of recv() is compiled to where the size of the buffer is known (_FORTIFY_SOURCE).
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): it is the C library's
INSTEAD ssize_t __recv_chk(int fd, void* buffer, std::size_t size, std::size_t room, int flags) {
    if (size > room) std::abort();
    return recv(fd, buffer, size, flags);
}

INSTEAD ssize_t send(int fd, const void* buffer, std::size_t size, int flags) {
    Fiber* const fiber = Fiber::running();
    const int more = fiber ? MSG_DONTWAIT : 0;
    for (;;) {
        const ssize_t sent = syscall(SYS_sendto, fd, buffer, size, flags | more, nullptr, 0);
        if (sent >= 0 || errno != EAGAIN || !fiber || (flags & MSG_DONTWAIT) != 0) return sent;
        if (!fiber->wait({.events = EPOLLOUT, .until = time_out_of(fd, SO_SNDTIMEO)})) return errno = EAGAIN, -1;
    }
}

INSTEAD int nanosleep(const timespec* time, timespec* left) {
    Fiber* const fiber = Fiber::running();
    if (!fiber) return static_cast<int>(syscall(SYS_nanosleep, time, left));
    fiber->wait(
        {.events = 0, .until = Clock::now() + std::chrono::seconds(time->tv_sec) + std::chrono::nanoseconds(time->tv_nsec)});
    return 0;
}
