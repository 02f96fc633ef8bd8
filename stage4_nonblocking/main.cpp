// One thread, non-blocking sockets: ask every client in turn whether it has something, and never wait for any of them.
// It mends stage 3's flaw: one thread needs no lock, and no stack for each client. A client's `sleep` holds up nobody.
// What still goes wrong: it never rests (see `top`, with no client at all), it asks every client to find the one that has
// something, and a fib stalls everybody.
//
// With --wait poll or --wait select, the same loop rests until poll(2) or select(2) reports sockets, and asks only those.
#include <CLI/CLI.hpp>

#include "process/start.hpp"
#include "sweep.hpp"

int main(int argc, char** argv) {
    const About about{"stage4_nonblocking", "one thread that asks every non-blocking socket again and again", 10'000};
    try {
        std::string wait = "spin";
        Options options = parse_options(argc, argv, about, [&](CLI::App& app) {
            app.add_option("--wait", wait, "how the loop rests: not at all (spin),\nin poll(2), or in select(2)")
                ->check(one_of({"spin", "poll", "select"}));
        });
        if (wait != "spin") options.about.technique = "one thread that " + wait + "(2) tells which sockets are ready";
        const Service service(options);
        const Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener);
        Sweep(service, listener, wait == "poll" ? in_poll : wait == "select" ? in_select : in_spin).run();
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
