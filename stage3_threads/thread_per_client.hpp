/// A thread for each client.
#pragma once

#include "base/service.hpp"
#include "sockets/sockets.hpp"

/// Serves until the server stops and every thread has ended. Throws std::system_error.
void thread_per_client(const Service& service, const Listener& listener);
