/// The first and the last thing that all six servers do.
#pragma once

#include <exception>
#include <string>

#include "service.hpp"
#include "sockets.hpp"

/// From here on the server is ready, and while this lives it is: raises the soft limit of descriptors, installs the signal
/// handlers, opens the tasks once (so that a database that can't be opened is an error now, not at the first task), writes
/// the pid file and prints the ready line, `stage3_threads: listening on 127.0.0.1:9999 (pid 4242)`. When it goes, so does
/// the pid file, and the log says what ended it. Throws std::system_error or std::runtime_error.
class Ready {
   public:
    Ready(const Service& service, const Listener& listener);
    Ready(const Ready&) = delete;
    Ready& operator=(const Ready&) = delete;
    ~Ready();

   private:
    std::string pid_file_;
    pid_t owner_;  // a forked child has a copy of this object, and must leave the file alone
};

/// Tells on standard error why the server could not start or go on, and gives the exit status for that: 1.
int failed(const About& about, const std::exception& error) noexcept;
