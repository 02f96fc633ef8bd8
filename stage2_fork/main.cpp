// A process for each client: accept in the parent, fork(2), serve in the child (CGI's model, and inetd's).
// It mends stage 1's flaw: no client waits for another, not even for a fib, because the kernel shares out the processors.
// What still goes wrong: each client costs a process, and nothing is shared. Try `count` in two terminals, then `pstree -p`.
//
// With --workers, the processes are forked before the first client (FastCGI's model, and gunicorn's sync worker). No client
// waits for fork(2), and the number of processes is fixed. Each serves one client at a time, and further clients wait.
#include <CLI/CLI.hpp>

#include "fork_per_client.hpp"
#include "prefork.hpp"
#include "process/master.hpp"
#include "process/start.hpp"

int main(int argc, char** argv) {
    const About about{"stage2_fork", "a process for each client", 256};
    try {
        Prefork workers;
        Options options = parse_options(argc, argv, about, [&](CLI::App& app) {
            app.add_option("-w,--workers", workers.number,
                           "processes forked before the first client,\none client each at a time")
                ->transform(whole_number(1, 512))
                ->excludes("--max-clients");
            add_seconds(app, "--timeout", workers.timeout,
                        "for one request; a worker that takes longer\nis ended and replaced; 0: no limit")
                ->needs("--workers");
            app.add_option("--max-requests", workers.max_requests,
                           "a worker that served so many is replaced\nonce its client has left; 0: never")
                ->transform(whole_number(0, 999'999'999))
                ->needs("--workers");
        });
        if (workers.number) options.about.technique = "processes forked before the first client, one client each at a time";
        const Service service(options, workers.number ? KeepAlive::no : KeepAlive::yes);
        // Non-blocking: between poll(2) and accept(2) the client may leave, or another worker may take it.
        Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        if (workers.number)
            return supervise(service, listener, *workers.number,
                             [&](const Listener& shared) { prefork(service, workers, shared); });
        const Ready ready(service, listener);
        return fork_per_client(service, listener);
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
