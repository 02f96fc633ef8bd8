// C++20 coroutines over one epoll loop; fib and database writes go to a pool of threads.
// It mends stage 5's flaws: the code reads from top to bottom again, and a fib stalls nobody.
// What still goes wrong: as many `fib 50` as the pool has threads, and the next fib waits, and so does `add`.
#include <algorithm>
#include <thread>

#include "server.hpp"
#include "start.hpp"

int main(int argc, char** argv) {
    const About about{"stage6_coroutines", "C++20 coroutines over one epoll loop, and a pool of threads that computes",
                      100'000};
    try {
        const Options options = parse_options(argc, argv, about);
        const Service service(options);
        const Listener listener = listen_on(options.host, options.port, Mode::nonblocking);
        const Ready ready(service, listener);
        const int processors = static_cast<int>(std::thread::hardware_concurrency());
        Server(service, listener, std::max(processors, 2)).run();
        return 0;
    } catch (const std::exception& error) {
        return failed(about, error);
    }
}
