// A thread for each client: accept in the main thread, serve in one of the client's own.
// It mends stage 2's flaw: a thread is lighter than a process, and shares everything; `count` counts for all.
// What still goes wrong: what is shared needs its lock (take it out and `count` loses updates), and a stack for each client.
//
// With --threads, a pool of them, started before the first client, and a queue between the one that accepts and those that
// serve: no more threads than wanted, and the next client waits. With --workers too, processes of such pools (gthread).
#include "master.hpp"
#include "pool.hpp"
#include "start.hpp"
#include "thread_per_client.hpp"

int main(int argc, char** argv) {
    const About about{"stage3_threads", "a thread for each client", 4096};
    try {
        int threads = 0;
        int workers = 0;
        Options options = parse_options(argc, argv, about,
                                        {{.names = "--threads",
                                          .help = "threads started before the first client, one client each at a time",
                                          .kind = StageOption::WholeNumber{threads, 1, 4096},
                                          .fixes_clients = true},
                                         {.names = "-w,--workers",
                                          .help = "processes of so many threads each",
                                          .kind = StageOption::WholeNumber{workers, 1, 512},
                                          .needs = "--threads"}});
        if (threads > 0) options.about.technique = "a pool of threads, one client each at a time";
        if (workers > 0) options.about.technique = "processes with a pool of threads each, one client each at a time";
        const Service service(options, threads > 0 ? KeepAlive::no : KeepAlive::yes);
        // Workers share the listener: between poll(2) and accept(2) the client may have gone to another.
        Listener listener = listen_on(options.host, options.port, workers > 0 ? Mode::nonblocking : Mode::blocking);
        if (workers > 0)
            return supervise(service, listener, workers, [&](const Listener& shared) { pool(service, threads, shared); });
        const Ready ready(service, listener);
        threads > 0 ? pool(service, threads, listener) : thread_per_client(service, listener);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
