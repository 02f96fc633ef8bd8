#include "prefork.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "serve.hpp"
#include "stop.hpp"
#include "tasks.hpp"

namespace {

/// The worker's own alarm: SIGALRM ends it where it stands (setitimer(2)), in a computation as well as in a sleep, and the
/// master puts another in its place. Zero turns it off. The end of a stop is set with the same timer, and comes first.
void set_alarm(std::chrono::nanoseconds time) noexcept {
    if (stop::requested()) return;
    const auto us = (time.count() + 999) / 1000;
    const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    if (stop::requested()) alarm(stop::grace_seconds);  // it came meanwhile
}

/// Set as long as this lives, however the work ends.
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
    int requests = 0;
    const auto carry_out = [&](Work work) {
        std::optional<Alarm> alarm;
        if (options.timeout > options.timeout.zero() && !std::holds_alternative<Reply>(work)) alarm.emplace(options.timeout);
        Reply reply = wait_or_compute(std::move(work), [&](Store& store) { return store.run(tasks, answered); });
        ++requests;
        if (reply.counted) ++answered;
        return reply;
    };

    // Stage 1, several times: the kernel's queue is one, and whoever is free takes the next client from it.
    while (options.max_requests == 0 || requests < options.max_requests) {
        const auto client = next_client(listener);
        if (!client) return;
        serve(*client, service, carry_out);
    }
}
