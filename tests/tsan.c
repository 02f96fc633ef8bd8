/*
 * ThreadSanitizer runs a signal's handler between two of a thread's calls, and within those that it knows to block; what
 * comes at another time waits for the next call. GCC 12's knows poll(2), but not accept4(2), recv(2) and send(2): a stop that
 * came just before one of these would not be heard until it returned, which may be never. So here poll(2) does the waiting.
 * Linked into the servers of VARIANT=tsan in front of the three (ld(1), --wrap).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>

int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
ssize_t __real_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __real_send(int fd, const void *buffer, size_t size, int flags);

static bool blocks(int fd, int flags) { return !(flags & MSG_DONTWAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK); }

/* Whether the socket is ready, within its own time-out; else errno is what the call would have failed with. */
static bool is_ready(int fd, short events, int timeout_option) {
    struct timeval timeout = {0};
    socklen_t size = sizeof timeout;
    getsockopt(fd, SOL_SOCKET, timeout_option, &timeout, &size);
    const long ms = timeout.tv_sec * 1000 + (timeout.tv_usec + 999) / 1000;
    const int ready = poll(&(struct pollfd){.fd = fd, .events = events, .revents = 0}, 1, ms > 0 ? (int)ms : -1);
    if (ready == 0) errno = EAGAIN;
    return ready > 0;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    if (blocks(fd, 0) && !is_ready(fd, POLLIN, SO_RCVTIMEO)) return -1;
    return __real_accept4(fd, address, size, flags);
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags) {
    if (blocks(fd, flags) && !is_ready(fd, POLLIN, SO_RCVTIMEO)) return -1;
    return __real_recv(fd, buffer, size, flags);
}

ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags) {
    if (!blocks(fd, flags)) return __real_send(fd, buffer, size, flags);
    if (!is_ready(fd, POLLOUT, SO_SNDTIMEO)) return -1;
    return __real_send(fd, buffer, size, flags | MSG_DONTWAIT); /* as much as there is room for, without another wait */
}
