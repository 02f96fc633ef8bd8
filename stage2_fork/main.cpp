// A process for each client: accept in the parent, fork(2), serve in the child (CGI's model, and inetd's).
// It mends stage 1's flaw: nobody waits for anybody else, not even for a fib, as the kernel shares the processors out.
// What still goes wrong: a process is heavy, and nothing is shared; `count` in two terminals, then `pstree -p`.
#include "fork_per_client.hpp"
#include "sockets.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage2_fork", "a process for each client", 256};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options);
        // Non-blocking: between ppoll(2) and accept(2) the client may have gone, and the parent has children to look after.
        const Fd listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener.get());
        return fork_per_client(service, listener.get());
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
