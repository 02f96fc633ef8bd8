// One thread, non-blocking sockets: ask every client in turn whether it has something, and never wait for any of them.
// It mends stage 3's flaw: one thread needs no lock and no stack for each client, and a sleeping one holds up nobody.
// What still goes wrong: it never rests (`top` with no client at all), asks all to find the one, and a fib holds up
// everybody.
//
// With --wait poll or --wait select, the same loop rests until poll(2) or select(2) names a socket, and asks those named.
#include <map>

#include "start.hpp"
#include "sweep.hpp"

int main(int argc, char** argv) {
    const About about{"stage4_nonblocking", "one thread that asks every non-blocking socket again and again", 10'000};
    try {
        const std::map<std::string, const Rest&> ways = {{"spin", in_spin}, {"poll", in_poll}, {"select", in_select}};
        std::string wait = "spin";
        Options options = parse_options(argc, argv, about,
                                        {{.names = "--wait",
                                          .help = "how the loop rests: not at all, in poll(2), or in select(2)",
                                          .kind = StageOption::OneOf{wait, {"spin", "poll", "select"}}}});
        if (wait != "spin") options.about.technique = "one thread that " + wait + "(2) tells which sockets are ready";
        const Service service(options);
        const Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener);
        Sweep(service, listener, ways.at(wait)).run();
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
