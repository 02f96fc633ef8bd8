/// What all sessions of a server share: the stage's name, its options, its limits.
#pragma once

#include <string>

#include "base/options.hpp"

/// Whether an HTTP connection stays open after a response.
enum class KeepAlive : bool {
    yes = true,
    no = false  ///< an open one would hold a thread that others wait for; gunicorn's sync worker closes it, too
};

/// Set once at the start, then only read, by all threads. Must outlive every Session.
struct Service {
    explicit Service(Options in_force, KeepAlive keep = KeepAlive::yes)
        : options(std::move(in_force)), keep_alive(keep == KeepAlive::yes), server(describe(options)) {}

    Options options;
    bool keep_alive;
    std::string server;  ///< GET /server's answer without what changes, see describe()
};
