// C++20 coroutines over one epoll loop; fib and database writes go to a pool of threads.
// It mends stage 5's flaws: the code reads from top to bottom again, and a fib stalls nobody.
// What still goes wrong: as many `fib 50` as the pool has threads, and the next fib waits, and so does `add`.
//
// With --pool 0 everything is computed in the loop, and a fib stalls everybody as in stage 5: the coroutine changes nothing
// about that. With --workers, processes of such loops, as in stage 5. With --flavor stackful, stage 1's blocking code on
// coroutines with a stack each, because the calls that would block let others run instead (greenlet's and gevent's model).
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "master.hpp"
#include "server.hpp"
#include "stackful.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage6_coroutines", "C++20 coroutines over one epoll loop, and a pool of threads that computes",
                      100'000};
    try {
        constexpr int not_given = -1;
        int threads = not_given;
        std::string flavor = "stackless";
        int workers = 0;
        Options options = parse_options(
            argc, argv, about,
            {{.names = "--pool",
              .help = "threads that compute fib and write tasks (one for each processor, and at "
                      "least 2); 0: the loop does",
              .kind = StageOption::WholeNumber{threads, 0, 256}},
             {.names = "--flavor",
              .help = "C++20's coroutines, or stackful ones that run stage 1's blocking code (for 30000 clients at most)",
              .kind = StageOption::OneOf{flavor, {"stackless", "stackful"}}},
             {.names = "-w,--workers",
              .help = "processes, each with a loop, a pool and a listening socket of its own",
              .kind = StageOption::WholeNumber{workers, 1, 512}}});
        const bool stackful = flavor == "stackful";
        if (threads == 0) options.about.technique = "C++20 coroutines over one epoll loop, which computes as well";
        if (stackful && threads != not_given) wrong_usage(about, "--pool excludes --flavor stackful, which has no pool");
        if (stackful) {
            options.about.technique = "stackful coroutines over one epoll loop, which run blocking code";
            if (options.max_clients == about.max_clients) options.max_clients = most_stacks;
            if (options.max_clients > most_stacks)
                wrong_usage(about, fmt::format("--max-clients: with --flavor stackful {} at most", most_stacks));
        } else if (threads == not_given) {
            threads = std::max(static_cast<int>(std::thread::hardware_concurrency()), 2);
            options.of_stage.emplace_back("pool", std::to_string(threads));
        }
        if (workers > 0) options.about.technique = "processes, each with " + options.about.technique;
        const Service service(options);
        std::vector<Listener> listeners = listen_apart(options.host, options.port, Mode::nonblocking, std::max(workers, 1));
        const auto serve = [&](const Listener& mine) {
            stackful ? Stackful(service, mine).run() : Server(service, mine, threads).run();
        };
        if (workers > 0) return supervise(service, listeners, serve);
        const Ready ready(service, listeners[0]);
        serve(listeners[0]);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
