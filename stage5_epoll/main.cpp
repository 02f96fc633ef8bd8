// One thread, epoll: rest until the kernel says which sockets have something, and ask only those.
// It mends stage 4's flaw: idle clients cost no processor time, and a server without work uses none.
// What still goes wrong: the code is inside out, and one fib stalls everybody. Try `fib 50` and `fib 1` in two terminals.
//
// With --trigger edge, epoll reports each change once, and the loop must not forget it. With --workers, several processes
// run such a loop each, with a listening socket of its own (SO_REUSEPORT; nginx's worker_processes with reuseport). A fib
// stalls only one of them. The kernel deals clients out without regard to load: a client dealt to a stalled worker
// waits, while other workers are idle. With --threads, the loops are threads of one process (muduo, Netty, memcached): they
// share the tasks and the count, and the lock is back.
#include <CLI/CLI.hpp>

#include "edge_loop.hpp"
#include "loops.hpp"
#include "process/master.hpp"
#include "process/start.hpp"

int main(int argc, char** argv) {
    const About about{"stage5_epoll", "one thread that epoll tells which sockets are ready", 100'000};
    try {
        std::string trigger = "level";
        std::optional<int> threads, workers;
        Options options = parse_options(argc, argv, about, [&](CLI::App& app) {
            app.add_option("--trigger", trigger,
                           "epoll reports a socket as long as it is ready\n(level), or once, when it becomes ready (edge)")
                ->check(one_of({"level", "edge"}));
            app.add_option("--threads", threads, "threads, each with a loop\nand a listening socket of its own")
                ->transform(whole_number(1, 512));
            app.add_option("-w,--workers", workers, "processes, each with a loop\nand a listening socket of its own")
                ->transform(whole_number(1, 512))
                ->excludes("--threads");
        });
        if (threads) options.about.technique = "threads with an epoll loop and a listening socket each";
        if (workers) options.about.technique = "processes with an epoll loop and a listening socket each";
        options.about.technique += ", " + trigger + "-triggered";
        const Service service(options);
        const bool edge = trigger == "edge";
        std::vector<Listener> listeners =
            listen_apart(options.host, options.port, Mode::nonblocking, std::max(workers.value_or(1), threads.value_or(1)));
        const auto make_loop = [&](const Listener& mine, Shared& shared) -> std::unique_ptr<EpollLoop> {
            if (edge) return std::make_unique<EdgeLoop>(service, mine, shared);
            return std::make_unique<EpollLoop>(service, mine, shared);
        };
        const auto serve = [&](const Listener& mine) {
            Shared shared(options.db);
            make_loop(mine, shared)->run();
        };
        if (workers) return supervise(service, listeners, serve);
        const Ready ready(service, listeners[0]);
        threads ? run_loops(service, listeners, make_loop) : serve(listeners[0]);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
