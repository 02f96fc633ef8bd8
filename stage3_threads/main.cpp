// A thread for each client: accept in the main thread, serve in one of the client's own.
// It mends stage 2's flaw: a thread is lighter than a process, and shares everything; `count` counts for all.
// What still goes wrong: what is shared needs its lock (take it out and `count` loses updates), and a stack for each client.
#include "sockets.hpp"
#include "start.hpp"
#include "thread_per_client.hpp"

int main(int argc, char** argv) {
    const About about{"stage3_threads", "a thread for each client", 4096};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options);
        const Fd listener = listen_on(options.host, options.port, Mode::blocking);
        const Ready ready(service, listener.get());
        thread_per_client(service, listener);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
