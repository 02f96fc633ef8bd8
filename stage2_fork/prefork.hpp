/// Workers: processes forked before the first client. Each accepts for itself and serves one client at a time.
#pragma once

#include <chrono>
#include <optional>

#include "base/service.hpp"
#include "sockets/sockets.hpp"

struct Prefork {
    std::optional<int> number;                                    ///< none: a process for each client
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);  ///< for one request's work; zero: no limit
    int max_requests = 0;                                         ///< after this many, a worker is replaced; zero: never
};

/// What a worker does: serves until a stop, its retirement or its last request (`max_requests`), and then until its client
/// has left. If work takes longer than `timeout`, SIGALRM ends the process. The listener must be non-blocking, because the
/// workers share it. Throws std::system_error.
void prefork(const Service& service, const Prefork& options, const Listener& listener);
