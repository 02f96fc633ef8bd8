/// A fixed number of threads, and a queue of clients that wait for a free one.
#pragma once

#include "base/service.hpp"
#include "sockets/sockets.hpp"

/// Serves until the server stops, or this worker retires, and every client is gone. If several workers share the listener,
/// it must be non-blocking. Throws std::system_error.
void pool(const Service& service, int threads, const Listener& listener);
