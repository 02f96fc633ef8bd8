// One process, one thread, one client at a time: accept a client, serve it to the end, accept the next.
// It mends what the naive server gets wrong: a stream is not messages, and no client may end the server (naive.cpp).
// What still goes wrong: the second client waits for as long as the first one likes; `nc localhost 9999` in two terminals.
#include "serve.hpp"
#include "start.hpp"
#include "tasks.hpp"

int main(int argc, char** argv) {
    const About about{"stage1_sync", "one process, one thread, one client at a time", {}};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options, KeepAlive::no);
        const Listener listener = listen_on(options.host, options.port, Mode::blocking);
        const Ready ready(service, listener);

        Tasks tasks(options.db);
        std::uint64_t answered = 0;
        const auto carry_out = [&](Work work) {
            Reply reply = wait_or_compute(std::move(work), [&](Store& store) { return store.run(tasks, answered); });
            if (reply.counted) ++answered;
            return reply;
        };

        // Meanwhile the others wait in the kernel's queue (listen(2)): connected, and unanswered.
        while (const auto client = next_client(listener)) serve(*client, service, carry_out);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
