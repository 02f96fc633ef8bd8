/// A process for each client.
#pragma once

#include "service.hpp"
#include "sockets.hpp"

/// Serves until the server stops, and returns the exit status: in the parent once every child is gone, in each child once
/// its client is. The listener is non-blocking. Throws std::system_error.
int fork_per_client(const Service& service, Listener& listener);
