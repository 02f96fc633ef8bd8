#include "stackful.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "../accept.hpp"
#include "base/log.hpp"
#include "fiber.hpp"
#include "sockets/serve.hpp"

namespace {

/// A descriptor for which recv(2), send(2) and rest() mean the functions below: they are found because they are declared
/// beside its type (argument-dependent lookup). Where the real ones would block the thread, these put the fiber aside.
struct Patched {
    int fd;
    operator int() const noexcept { return fd; }
};

/// When the socket's own time-out ends (SO_RCVTIMEO or SO_SNDTIMEO, socket(7)). The kernel heeds it only on a blocking
/// socket.
TimePoint time_out_of(int fd, int option) noexcept {
    timeval limit{};
    socklen_t size = sizeof limit;
    getsockopt(fd, SOL_SOCKET, option, &limit, &size);
    const auto time = std::chrono::seconds(limit.tv_sec) + std::chrono::microseconds(limit.tv_usec);
    return time.count() == 0 ? TimePoint::max() : Clock::now() + time;
}

ssize_t recv(Patched socket, void* buffer, std::size_t size, int flags) {
    const TimePoint ends = time_out_of(socket, SO_RCVTIMEO);
    // It waits even if bytes are there already, or else a client that never stops sending would be the only one served.
    while (Fiber::wait({.events = EPOLLIN, .ends = ends})) {
        const ssize_t received = ::recv(socket, buffer, size, flags);
        if (received >= 0 || errno != EAGAIN) return received;
    }
    return errno = EAGAIN, -1;
}

ssize_t send(Patched socket, const void* buffer, std::size_t size, int flags) {
    for (;;) {
        const ssize_t sent = ::send(socket, buffer, size, flags);
        if (sent >= 0 || errno != EAGAIN) return sent;
        if (!Fiber::wait({.events = EPOLLOUT, .ends = time_out_of(socket, SO_SNDTIMEO)})) return errno = EAGAIN, -1;
    }
}

/// Ends early if the client resets the connection.
void sleep_for(std::chrono::nanoseconds time) { Fiber::wait({.events = EPOLLERR, .ends = Clock::now() + time}); }

void rest(Patched /*socket*/, std::chrono::nanoseconds time) { sleep_for(time); }

}  // namespace

Stackful::Stackful(const Service& service, const Listener& listener)
    : service_(service), listener_(listener), tasks_(service.options.db) {}

void Stackful::run() {
    const auto arrived = [this](Client client) { return converse(std::move(client)); };
    loop_.spawn(accept_clients(loop_, listener_, service_.options.max_clients, arrived));
    loop_.run();
}

/// serve() runs on its own stack without knowing it. Where one of its calls would block, the fiber says what it waits for
/// and is put aside. This coroutine, which the loop knows, waits in its place.
Co Stackful::converse(Client client) {
    try {
        const auto answer = [this](Work& work) { carry_out(work); };
        Socket socket(loop_, client.fd.get());
        Fiber fiber([&] { serve<Patched>(client, service_, spare_, answer); });
        for (bool happened = false; fiber.resume(happened);) {
            const auto [events, ends] = fiber.awaits();
            happened = false;
            try {
                if (events == 0)
                    co_await loop_.turn();
                else
                    happened = co_await Socket::Awaiter{socket, events, ends};
            } catch (const std::system_error& why) {  // it cannot be watched: serve() sees a time-out
                logging::trouble("A client cannot be waited for", why.what());
            }
        }
    } catch (const std::exception& why) {  // no memory for a stack
        logging::given_up(why);
    }
}

/// As in stage 1, except for the sleep. A fib stalls everybody: there is one thread, and a computation makes no call that
/// would block.
void Stackful::carry_out(Work& work) {
    const bool known = std::holds_alternative<Reply>(work);
    if (auto* const wait = std::get_if<Wait>(&work)) sleep_for(std::exchange(wait->duration, {}));
    const Reply& reply = wait_or_compute(work, tasks_, [this] { return answered_; });
    if (reply.counted) ++answered_;
    if (!known) Fiber::wait({});  // the others' turn, as gevent.sleep(0) gives it
}
