/// What all six servers do first and last.
#pragma once

#include <exception>
#include <optional>

#include "base/service.hpp"
#include "sockets/sockets.hpp"
#include "tasks/database_file.hpp"

/// The server is ready while this object lives. The constructor begins the log, raises the soft limit of descriptors,
/// ignores SIGPIPE and SIGXFSZ, takes hold of the database (so that one that can't be opened is an error now, not at the
/// first task), installs the signal handlers, writes the pid file and prints the ready line,
/// `stage3_threads: listening on 127.0.0.1:9999 (pid 4242)`. It throws std::system_error or std::runtime_error. The
/// destructor logs which signal stopped the server, removes the pid file and lets go of the database.
///
/// Create it before the first client, child or second thread. It must outlive every Tasks.
class Ready {
   public:
    Ready(const Service& service, const Listener& listener);
    Ready(const Ready&) = delete;
    Ready& operator=(const Ready&) = delete;
    ~Ready();

   private:
    std::optional<DatabaseFile> database_;
    pid_t owner_;  // a forked child has a copy of this object, whose destructor must do nothing
};

/// Writes to standard error why the server could not start or go on, and returns the exit status for that: 1.
int failed(const About& about, const std::exception& error) noexcept;
