#include "prefork.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "sockets/serve.hpp"
#include "sockets/stop.hpp"
#include "tasks/tasks.hpp"

namespace {

/// Sets the worker's own alarm (setitimer(2)). SIGALRM ends the worker even in a computation or a sleep, and the master
/// replaces it. Zero turns the alarm off. A stop uses the same timer for its own limit, and takes precedence.
void set_alarm(std::chrono::nanoseconds time) noexcept {
    if (stop::requested()) return;
    const auto us = (time.count() + 999) / 1000;
    const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    if (stop::requested()) alarm(stop::grace_seconds);  // the stop came in between
}

/// The alarm is set while this object lives, even if the work ends by an exception.
struct Alarm {
    explicit Alarm(std::chrono::nanoseconds time) noexcept { set_alarm(time); }
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;
    ~Alarm() { set_alarm({}); }
};

}  // namespace

void prefork(const Service& service, const Prefork& options, const Listener& listener) {
    std::signal(SIGALRM, SIG_DFL);
    Tasks tasks(service.options.db);
    std::uint64_t answered = 0;
    std::int64_t requests = 0;
    const auto carry_out = [&](Work& work) {
        std::optional<Alarm> alarm;
        if (options.timeout > options.timeout.zero() && !std::holds_alternative<Reply>(work)) alarm.emplace(options.timeout);
        const Reply& reply = wait_or_compute(work, tasks, [&] { return answered; });
        ++requests;
        if (reply.counted) ++answered;
    };

    // Stage 1's loop, in each worker. All workers share one accept queue, and a free worker takes the next client from it.
    while (!stop::leaving() && (options.max_requests == 0 || requests < options.max_requests)) {
        Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (accepted(client, listener)) serve(Client(std::move(client)), service, carry_out);
    }
}
