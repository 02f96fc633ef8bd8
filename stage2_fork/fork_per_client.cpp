#include "fork_per_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "sockets/serve.hpp"
#include "sockets/sockets.hpp"
#include "tasks/tasks.hpp"

namespace {

/// A child runs stage 1's whole conversation in its own process. It opens the database itself, so that the children share
/// the tasks through the database's file. But each child has its own count.
int serve_in_child(Client client, const Service& service) {
    Tasks tasks(service.options.db);
    std::uint64_t answered = 0;
    serve(client, service, [&](Work& work) {
        const Reply& reply = wait_or_compute(work, tasks, [&] { return answered; });
        if (reply.counted) ++answered;
    });
    return 0;
}

}  // namespace

int fork_per_client(const Service& service, Listener& listener) {
    stop::in_parent();
    const pid_t parent = getpid();
    if (service.options.db == ":memory:")
        logging::info("With :memory: each child, and so each client, has tasks of its own");

    // Signals are let in only at the wait for clients. If one arrived between reaping the children and waiting, it would not
    // end the wait (the reason for ppoll(2)). SIGCHLD needs a handler: without one, it would not end the wait either.
    std::signal(SIGCHLD, [](int) {});
    sigset_t signals;
    sigset_t usual;
    sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGALRM}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, &usual);

    std::vector<pid_t> children;
    children.reserve(static_cast<std::size_t>(service.options.max_clients));  // push_back() after fork(2) must not fail
    for (;;) {
        pollfd arrivals{.fd = listener.get(), .events = POLLIN, .revents = 0};
        const bool blind = ppoll(&arrivals, 1, nullptr, &usual) < 0 && errno != EINTR;  // the kernel is short of memory
        // If a client is there already, ppoll(2) returns without letting signals in. These two calls let them in.
        sigprocmask(SIG_SETMASK, &usual, nullptr);
        sigprocmask(SIG_BLOCK, &signals, nullptr);
        stop::reap(children);  // or else each child that ended stays as a zombie
        Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const Accepted outcome = accepted(client);
        if (outcome == Accepted::stopped) break;
        if (blind || outcome == Accepted::shortage) std::this_thread::sleep_for(shortage_pause);
        if (outcome != Accepted::client) continue;
        const bool full = children.size() >= static_cast<std::size_t>(service.options.max_clients);
        const pid_t child = full ? -1 : fork();
        if (child == 0) {
            listener.close();  // the child holds copies of the parent's descriptors
            stop::in_child(parent);
            std::signal(SIGCHLD, SIG_DFL);
            sigprocmask(SIG_SETMASK, &usual, nullptr);
            return serve_in_child(Client(std::move(client)), service);
        }
        if (child > 0)
            children.push_back(child);
        else
            full ? refuse(client) : refuse(client, std::strerror(errno));
        // Here the parent closes its copy of the client's descriptor. The child's copy keeps the connection open.
    }
    return stop::end(std::move(children), signals);
}
