#include "base/thread_id.hpp"

#include <pthread.h>
#include <unistd.h>

namespace {

thread_local pid_t thread = 0;
thread_local pid_t process = 0;

// After fork(2), the child's only thread would still have the ids of the thread that forked.
const int forget_in_children = pthread_atfork(nullptr, nullptr, [] { thread = process = 0; });

}  // namespace

pid_t this_thread() noexcept {
    if (thread == 0) thread = gettid();
    return thread;
}

pid_t this_process() noexcept {
    if (process == 0) process = getpid();
    return process;
}
