// One thread, non-blocking sockets: ask every client in turn whether it has something, and never wait for any of them.
// It mends stage 3's flaw: one thread needs no lock and no stack for each client, and a sleeping one holds up nobody.
// What still goes wrong: it never rests (`top` with no client at all), asks all to find the one, and a fib holds up
// everybody.
#include "start.hpp"
#include "sweep.hpp"

int main(int argc, char** argv) {
    const About about{"stage4_nonblocking", "one thread that asks every non-blocking socket again and again", 10'000};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options);
        const Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener);
        Sweep(service, listener).run();
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
