// One thread, epoll: rest until the kernel says which sockets have something, and ask those alone.
// It mends stage 4's flaw: idle clients cost nothing, and a server without work uses no processor time.
// What still goes wrong: the code is inside out, and one fib stalls everybody; `fib 50` here, `fib 1` in a second terminal.
//
// With --trigger edge, epoll tells of each change once, and the loop must not forget it. With --workers, processes of such
// loops, each with a listening socket of its own (SO_REUSEPORT; nginx's worker_processes with reuseport): a fib stalls one
// of them. The kernel deals clients out without looking who is busy: those dealt to a stalled worker wait, while others
// idle.
#include "epoll_loop.hpp"
#include "master.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage5_epoll", "one thread that epoll tells which sockets are ready", 100'000};
    try {
        std::string trigger = "level";
        int workers = 0;
        Options options =
            parse_options(argc, argv, about,
                          {{.names = "--trigger",
                            .help = "epoll tells of a socket as long as it is ready, or once when it becomes so",
                            .kind = StageOption::OneOf{trigger, {"level", "edge"}}},
                           {.names = "-w,--workers",
                            .help = "processes, each with a loop and a listening socket of its own",
                            .kind = StageOption::WholeNumber{workers, 1, 512}}});
        if (workers > 0) options.about.technique = "processes with an epoll loop and a listening socket each";
        options.about.technique += ", " + trigger + "-triggered";
        const Service service(options);
        std::vector<Listener> listeners = listen_apart(options.host, options.port, Mode::nonblocking, std::max(workers, 1));
        const auto serve = [&](const Listener& mine) {
            EpollLoop(service, mine, trigger == "edge" ? Trigger::edge : Trigger::level).run();
        };
        if (workers > 0) return supervise(service, listeners, serve);
        const Ready ready(service, listeners[0]);
        serve(listeners[0]);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
