/// A process for each client.
#pragma once

#include "base/service.hpp"
#include "sockets/sockets.hpp"

/// Serves until the server stops. Returns the exit status: in the parent once every child has ended, in a child once its
/// client has left. The listener must be non-blocking. Throws std::system_error.
int fork_per_client(const Service& service, Listener& listener);
