/// The kernel's numbers of the thread and the process that run.
#pragma once

#include <sys/types.h>

/// The number of the calling thread (gettid(2)) and of its process (getpid(2)). Both are remembered, because a system call
/// for each reply would cost more than the rest of a small reply. Correct right after fork(2), too. Any thread may call.
pid_t this_thread() noexcept;
pid_t this_process() noexcept;
