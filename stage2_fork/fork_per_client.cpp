#include "fork_per_client.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "limits.hpp"
#include "log.hpp"
#include "serve.hpp"
#include "tasks.hpp"

namespace {

/// What a child does: all of stage 1's conversation, in a process of its own. Its tasks and its count are its own, too: the
/// tasks meet the others' in the database's file, the count nowhere.
int serve_in_child(Client client, const Service& service) {
    Tasks tasks(service.options.db);
    std::uint64_t answered = 0;
    serve(client, service, [&](Work work) {
        Reply reply = wait_or_compute(std::move(work), [&](Store& store) { return store.run(tasks, answered); });
        if (reply.counted) ++answered;
        return reply;
    });
    return 0;
}

}  // namespace

int fork_per_client(const Service& service, Listener& listener) {
    stop::in_parent();
    const pid_t parent = getpid();
    if (service.options.db == ":memory:")
        logging::info("With :memory: each child, and so each client, has tasks of its own");

    // Signals come while we wait for clients and at no other time, so that none slips in between the look at the children
    // and the wait (the reason for ppoll(2)). A signal without a handler would not wake us.
    std::signal(SIGCHLD, [](int) {});
    sigset_t signals;
    sigset_t usual;
    sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGALRM}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, &usual);

    std::vector<pid_t> children;
    children.reserve(static_cast<std::size_t>(service.options.max_clients));  // to remember one must not fail
    for (;;) {
        pollfd client{.fd = listener.get(), .events = POLLIN, .revents = 0};
        const bool blind = ppoll(&client, 1, nullptr, &usual) < 0 && errno != EINTR;  // the kernel has no memory for it
        // Where a client is there already, ppoll(2) returns without letting signals in: this does.
        sigprocmask(SIG_SETMASK, &usual, nullptr);
        sigprocmask(SIG_BLOCK, &signals, nullptr);
        stop::reap(children);  // else those who have ended would stay as zombies
        Arrival arrival = accept_client(listener, Mode::blocking);
        if (arrival.outcome == Accepted::stopped) break;
        if (blind || arrival.outcome == Accepted::shortage) std::this_thread::sleep_for(shortage_pause);
        if (arrival.outcome != Accepted::client) continue;
        if (children.size() >= static_cast<std::size_t>(service.options.max_clients)) {
            refuse(std::move(arrival.fd));
            continue;
        }
        const pid_t child = fork();
        if (child == 0) {
            listener.close();  // the child holds copies of the parent's descriptors
            stop::in_child(parent);
            std::signal(SIGCHLD, SIG_DFL);
            sigprocmask(SIG_SETMASK, &usual, nullptr);
            return serve_in_child(Client(std::move(arrival.fd), std::move(arrival.peer)), service);
        }
        if (child > 0)
            children.push_back(child);
        else
            refuse(std::move(arrival.fd), std::strerror(errno));
        // Here the parent's copy of the client's descriptor is closed: the child's alone keeps the connection.
    }
    return stop::end(std::move(children), signals);
}
