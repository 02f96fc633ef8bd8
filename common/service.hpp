/// What every conversation of a server has in common: the stage's name, its options, its limits.
#pragma once

#include <string>

#include "options.hpp"

/// What becomes of an HTTP connection after a response.
enum class KeepAlive : bool {
    yes = true,
    no = false  ///< a kept-open connection would hold a server that others wait for, as gunicorn's sync worker knows
};

/// Set once at the start and read by all threads after that; whoever holds a Session keeps this alive.
struct Service {
    explicit Service(Options in_force, KeepAlive keep = KeepAlive::yes)
        : options(std::move(in_force)), keep_alive(keep == KeepAlive::yes), server(describe(options)) {}

    Options options;
    bool keep_alive;
    std::string server;  ///< GET /server's answer but for what changes, see describe()
};
