/*
 * ThreadSanitizer runs a signal's handler at a thread's next call, or within a call that it knows to block. GCC 12's knows
 * poll(2), but not accept4(2), recv(2), send(2) and epoll_wait(2). A stop that comes just before one of these would not be
 * heard until the call returns, which may be never. So here poll(2) does the waiting.
 * Linked into the servers of VARIANT=tsan in front of the four (ld(1), --wrap).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
ssize_t __real_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __real_send(int fd, const void *buffer, size_t size, int flags);
int __real_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout);

static bool blocks(int fd, int flags) { return !(flags & MSG_DONTWAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK); }

/* Waits until the socket is ready, or its own time-out is over. If false, errno is what the call would have failed with. */
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

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    const int ready = poll(&(struct pollfd){.fd = epoll, .events = POLLIN, .revents = 0}, 1, timeout);
    return ready > 0 ? __real_epoll_wait(epoll, events, most, 0) : ready;
}
