/// --pid-file: a file that holds the server's process id while it runs.
#pragma once

#include <string>

namespace pid_file {

/// Writes this process's id into the file, and locks the file for as long as the process lives. However the process ends,
/// the kernel releases the lock. A child never has it (fcntl(2)). So a locked file belongs to a server that runs. An
/// unlocked one was left behind, and this takes it over. A file that is not regular, or holds anything but digits, stays as
/// it is. From now on SIGQUIT, unless it is ignored, removes the file and then ends the process as it does by default.
///
/// To be called once, while the process has one thread. Throws std::system_error or, if the file is another server's or no
/// pid file, std::runtime_error.
void take(const std::string& path);

/// Removes the file if this process took it and no other file has replaced it. Safe in a signal handler.
void remove() noexcept;

}  // namespace pid_file
