/// The coroutine that accepts clients, for both flavors.
#pragma once

#include <functional>

#include "loop.hpp"
#include "sockets/sockets.hpp"

/// Spawns `converse` for each client until the server stops or this worker retires. Refuses a client past this process's
/// `max_clients`, and drops one for which there is no memory. The listener must be non-blocking. Throws std::system_error.
Co accept_clients(Loop& loop, const Listener& listener, int max_clients, std::function<Co(Client)> converse);
