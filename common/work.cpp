#include "work.hpp"

#include <pthread.h>

namespace {

thread_local pid_t thread = 0;
thread_local pid_t process = 0;

// A child's only thread is a copy of the one that forked, what it remembers included.
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
