/// Processes forked before the first client, which accept by themselves, one client each at a time.
#pragma once

#include <chrono>

#include "service.hpp"
#include "sockets.hpp"

struct Prefork {
    int number = 0;                                               ///< none: a process for each client
    std::chrono::nanoseconds timeout = std::chrono::seconds(30);  ///< for one request; zero: any time
    int max_requests = 0;                                         ///< after so many a worker is replaced; zero: never
};

/// What a worker does: serves until it is to go. The listener is non-blocking, since the others wait for it, too. Throws
/// std::system_error.
void prefork(const Service& service, const Prefork& options, const Listener& listener);
