/// The coroutine that accepts clients, for both flavors.
#pragma once

#include <functional>

#include "loop.hpp"
#include "sockets.hpp"

/// Spawns `converse` for each client, until no more are to be accepted. The listener is non-blocking.
Co<void> accept_clients(Loop& loop, const Listener& listener, int max_clients, std::function<Co<void>(Client)> converse);
