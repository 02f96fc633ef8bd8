// A process for each client: accept in the parent, fork(2), serve in the child (CGI's model, and inetd's).
// It mends stage 1's flaw: nobody waits for anybody else, not even for a fib, as the kernel shares the processors out.
// What still goes wrong: a process is heavy, and nothing is shared; `count` in two terminals, then `pstree -p`.
//
// With --workers, processes forked before the first client (FastCGI's model, and gunicorn's sync worker): no fork(2) while a
// client waits, and no more processes than wanted; as many clients as workers are served, and the next one waits.
#include "fork_per_client.hpp"
#include "master.hpp"
#include "prefork.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage2_fork", "a process for each client", 256};
    try {
        Prefork workers;
        Options options = parse_options(
            argc, argv, about,
            {{.names = "-w,--workers",
              .help = "processes forked before the first client, one client each at a time",
              .kind = StageOption::WholeNumber{workers.number, 1, 512},
              .fixes_clients = true},
             {.names = "--timeout",
              .help = "seconds after which a worker that is still at one request is ended and replaced; 0: never",
              .kind = StageOption::Seconds{workers.timeout},
              .needs = "--workers"},
             {.names = "--max-requests",
              .help = "a worker that served so many is replaced once its client has left; 0: never",
              .kind = StageOption::WholeNumber{workers.max_requests, 0, 1'000'000'000},
              .needs = "--workers"}});
        if (workers.number > 0)
            options.about.technique = "processes forked before the first client, one client each at a time";
        const Service service(options, workers.number > 0 ? KeepAlive::no : KeepAlive::yes);
        // Non-blocking: between poll(2) and accept(2) the client may have gone, to another worker perhaps.
        Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        if (workers.number > 0)
            return supervise(service, listener, workers.number,
                             [&](const Listener& shared) { prefork(service, workers, shared); });
        const Ready ready(service, listener);
        return fork_per_client(service, listener);
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
