// A thread for each client: accept in the main thread, serve in the client's own thread.
// It mends stage 2's flaw: a thread costs less than a process, and threads share everything, so `count` counts for all.
// What still goes wrong: shared data needs a lock (take it out and `count` loses updates), and each client needs a stack.
//
// With --threads, a pool of threads is started before the first client. The main thread accepts clients and puts them in a
// queue, and the pool serves them. The number of threads is fixed, and further clients wait. With --workers as well, several
// processes have such a pool each (gthread).
#include <CLI/CLI.hpp>

#include "pool.hpp"
#include "process/master.hpp"
#include "process/start.hpp"
#include "thread_per_client.hpp"

int main(int argc, char** argv) {
    const About about{"stage3_threads", "a thread for each client", 4096};
    try {
        std::optional<int> threads, workers;
        Options options = parse_options(argc, argv, about, [&](CLI::App& app) {
            app.add_option("--threads", threads, "threads started before the first client,\none client each at a time")
                ->transform(whole_number(1, 4096))
                ->excludes("--max-clients");
            app.add_option("-w,--workers", workers, "processes of so many threads each")
                ->transform(whole_number(1, 512))
                ->needs("--threads");
        });
        if (threads) options.about.technique = "a pool of threads, one client each at a time";
        if (workers) options.about.technique = "processes with a pool of threads each, one client each at a time";
        const Service service(options, threads ? KeepAlive::no : KeepAlive::yes);
        // Workers share the listener: between poll(2) and accept(2) another worker may take the client.
        Listener listener = listen_on(options.host, options.port, workers ? Mode::nonblocking : Mode::blocking);
        if (workers)
            return supervise(service, listener, *workers, [&](const Listener& shared) { pool(service, *threads, shared); });
        const Ready ready(service, listener);
        threads ? pool(service, *threads, listener) : thread_per_client(service, listener);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
