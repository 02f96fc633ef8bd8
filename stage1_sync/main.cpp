// One process, one thread, one client at a time: accept a client, serve it to the end, accept the next.
// It mends two flaws: the naive server takes whatever recv(2) returns for a message, and any client can end it (naive.cpp).
// What still goes wrong: the second client waits as long as the first one likes. Try `nc localhost 9999` in two terminals.
#include <sys/socket.h>

#include "process/start.hpp"
#include "sockets/serve.hpp"
#include "tasks/tasks.hpp"

int main(int argc, char** argv) {
    const About about{"stage1_sync", "one process, one thread, one client at a time", {}};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options, KeepAlive::no);
        const Listener listener = listen_on(options.host, options.port, Mode::blocking);
        const Ready ready(service, listener);

        Tasks tasks(options.db);
        std::uint64_t answered = 0;
        const auto carry_out = [&](Work& work) {
            const Reply& reply = wait_or_compute(work, tasks, [&] { return answered; });
            if (reply.counted) ++answered;
        };

        // Meanwhile the other clients wait in the accept queue (listen(2)): connected, but unanswered.
        while (!stop::leaving()) {
            Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (accepted(client, listener)) serve(Client(std::move(client)), service, carry_out);
        }
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
