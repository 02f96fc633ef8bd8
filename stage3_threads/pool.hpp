/// A fixed number of threads, and a queue of clients who wait for one.
#pragma once

#include "service.hpp"
#include "sockets.hpp"

/// Serves until no client is to be accepted any more and everybody has gone. Throws std::system_error.
void pool(const Service& service, int threads, const Listener& listener);
