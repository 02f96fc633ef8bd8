// One thread, epoll: rest until the kernel says which sockets have something, and ask those alone.
// It mends stage 4's flaw: idle clients cost nothing, and a server without work uses no processor time.
// What still goes wrong: the code is inside out, and one fib stalls everybody; `fib 50` here, `fib 1` in a second terminal.
#include "epoll_loop.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage5_epoll", "one thread that epoll tells which sockets are ready", 100'000};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options);
        const Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener);
        EpollLoop(service, listener).run();
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
