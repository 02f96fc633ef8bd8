// C++20 coroutines over one epoll loop; fib and database writes go to a pool of threads.
// It mends stage 5's flaws: the code reads from top to bottom again, and a fib stalls nobody.
// What still goes wrong: while each thread of the pool computes a `fib 50`, the next fib waits, and so does `add`.
//
// With --pool 0, the loop computes everything, and a fib stalls everybody as in stage 5: coroutines do not change that. With
// --workers, several processes run such a loop each, as in stage 5. With --flavor stackful, stage 1's blocking code runs on
// coroutines with a stack each. Calls that would block let other coroutines run instead (greenlet's and gevent's model).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <thread>

#include "process/master.hpp"
#include "process/start.hpp"
#include "stackful/stackful.hpp"
#include "stackless.hpp"

int main(int argc, char** argv) {
    const About about{"stage6_coroutines", "C++20 coroutines over one epoll loop, and a pool of threads that computes",
                      100'000};
    try {
        std::optional<int> threads, workers;
        std::string flavor = "stackless";
        Options options = parse_options(argc, argv, about, [&](CLI::App& app) {
            app.add_option("--pool", threads,
                           "threads that compute fib and write tasks (one for\n"
                           "each processor, 2 at least); 0: the loop does")
                ->transform(whole_number(0, 256));
            app.add_option("--flavor", flavor,
                           "stackless: C++20's coroutines; stackful: they run\n"
                           "stage 1's blocking code (30000 clients at most)")
                ->check(one_of({"stackless", "stackful"}));
            app.add_option("-w,--workers", workers, "processes, each with a loop, a pool\nand a listening socket of its own")
                ->transform(whole_number(1, 512));
        });
        const bool stackful = flavor == "stackful";
        if (threads == 0) options.about.technique = "C++20 coroutines over one epoll loop, which computes as well";
        if (stackful && threads) wrong_usage(about, "--pool excludes --flavor stackful, which has no pool");
        if (stackful) {
            options.about.technique = "stackful coroutines over one epoll loop, which run blocking code";
            if (options.max_clients == about.max_clients) options.max_clients = most_stacks;
            if (options.max_clients > most_stacks)
                wrong_usage(about, fmt::format("--max-clients wants {} at most with --flavor stackful", most_stacks));
        } else if (!threads) {
            threads = std::max(static_cast<int>(std::thread::hardware_concurrency()), 2);
            options.of_stage.emplace_back("pool", std::to_string(*threads));
        }
        if (workers) options.about.technique = "processes, each with " + options.about.technique;
        const Service service(options);
        std::vector<Listener> listeners = listen_apart(options.host, options.port, Mode::nonblocking, workers.value_or(1));
        const auto serve = [&](const Listener& mine) {
            stackful ? Stackful(service, mine).run() : Stackless(service, mine, *threads).run();
        };
        if (workers) return supervise(service, listeners, serve);
        const Ready ready(service, listeners[0]);
        serve(listeners[0]);
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
