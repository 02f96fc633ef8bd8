/*
 * Makes calls fail on demand, as the kernel and the C library may at any time: a call is interrupted, does less than it was
 * asked for, or has no memory or descriptor left. Preloaded into a server (LD_PRELOAD, ld.so(8)), this wraps the calls that
 * the six programs and SQLite make, and fails some of them as a test wishes. tests/suites/faults.py is that test.
 *
 * The test writes its wish into a file that the environment variable FAULTS names. Every process of the server maps that
 * file, so the wish can change while they run, and it holds for workers and children, too. Nothing fails until it is armed.
 *
 * A call that would only return EAGAIN (on a non-blocking socket) is neither counted nor failed: a loop that never rests
 * makes any number of them, so the tenth call would be a different one each time. But a wish that hits no call counts calls
 * for what they cost, and counts these, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The test's wish, and what came of it. harness/faults.py knows this layout (Faults.LAYOUT). */
struct control {
    /* Upper half: the number of the armed wish, or 0. Lower half: how many calls it has counted. It is one word, and no
       number is used twice, so a call that began under another wish notices. It is neither counted nor hit then. */
    _Atomic uint64_t state;
    int32_t error;              /* errno of a call that is hit; 0: it moves one byte at most; LATE */
    uint32_t irregularly;       /* about half of the calls below, in no regular order */
    uint64_t skip;              /* how many calls are spared first, */
    uint64_t times;             /* and how many are hit after them */
    uint64_t least;             /* bytes; smaller allocations are not counted */
    char calls[256];            /* their names, with a blank before and after each */
};

/* The call is made as asked, but only once a signal has come or a second has passed. */
#define LATE (-1)

static struct control *control; /* NULL: nothing fails */
static bool tracing;            /* FAULTS_TRACE: each hit writes its stack to standard error */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *file = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    void *here;
    tracing = getenv("FAULTS_TRACE") && backtrace(&here, 1) > 0; /* the first backtrace() loads a library */
    if (file != MAP_FAILED) control = file;
}

/* The number of the armed wish if it names this call, else 0. `call` has a blank at both ends. */
static uint64_t wish_for(const char *call) {
    uint64_t wish = control ? control->state >> 32 : 0;
    return wish != 0 && strstr(control->calls, call) ? wish : 0;
}

/* The C library's own function of this name. */
#define NEXT(name)                                                         \
    __extension__({                                                        \
        static __typeof__(name) *next;                                     \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name);              \
        next;                                                              \
    })

/* For a second at most. Through syscall(2), so that a sanitizer does not see a wait and let signals in. */
static bool wait_for_a_signal(void) {
    NEXT(syscall)(SYS_nanosleep, &(struct timespec){.tv_sec = 1, .tv_nsec = 0}, NULL);
    return false;
}

/* Counts a call. Returns whether it is hit, with errno set; LATE only waits. */
static bool hit(uint64_t wish) {
    if (wish == 0) return false;
    /* Read before the exchange, which fails if this wish is no longer armed: so they belong to it. */
    const uint64_t skip = control->skip, times = control->times;
    const bool irregularly = control->irregularly;
    const int error = control->error;
    uint64_t state = control->state;
    do {
        if (state >> 32 != wish) return false;
    } while (!atomic_compare_exchange_weak(&control->state, &state, state + 1));
    uint64_t number = state & UINT32_MAX;
    if (number < skip || number - skip >= times) return false;
    /* Hit if the call's number has an odd number of one bits (the Thue-Morse sequence): never three in a row, and without a
       period, so that it does not fall into step with a loop that makes two calls in turn. */
    if (irregularly && __builtin_popcountll(number) % 2 == 0) return false;
    if (tracing) {
        void *stack[40];
        backtrace_symbols_fd(stack, backtrace(stack, 40), STDERR_FILENO);
    }
    if (error == LATE) return wait_for_a_signal();
    errno = error;
    return true;
}

/* Whether a call that moves bytes fails. If it is to do less instead, its size becomes one byte. */
static bool fails(uint64_t wish, size_t *size) {
    if (!hit(wish)) return false;
    if (errno != 0) return true;
    if (*size > 1) *size = 1;
    return false;
}

/* Defines a function that fails with errno and returns `failed` if `where` holds and the call is hit. */
#define INSTEAD_WHERE(where, type, failed, name, parameters, arguments)   \
    type name parameters {                                                 \
        if ((where) && hit(wish_for(" " #name " "))) return failed;        \
        return NEXT(name) arguments;                                       \
    }
#define INSTEAD(type, failed, name, parameters, arguments) INSTEAD_WHERE(true, type, failed, name, parameters, arguments)

/* ---- Sockets ---------------------------------------------------------------------------------------------------------- */

/* Whether a call on this socket would only return EAGAIN. */
static bool not_now(int fd, int flags, short events) {
    if (control->times == 0) return false;
    if ((flags & MSG_DONTWAIT) == 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0) return false;
    return NEXT(poll)(&(struct pollfd){.fd = fd, .events = events, .revents = 0}, 1, 0) == 0;
}

/* Whether a call on this socket fails without the real one. EAGAIN is returned here, too: if something
   arrived just before the real call, that would succeed without being counted. */
static bool settled(uint64_t wish, int fd, int flags, short events, size_t *size) {
    if (wish == 0) return false;
    if (not_now(fd, flags, events)) return errno = EAGAIN, true;
    return fails(wish, size);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    if (settled(wish_for(" accept4 "), fd, 0, POLLIN, &(size_t){0})) return -1;
    return NEXT(accept4)(fd, address, size, flags);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    if (settled(wish_for(" recv "), fd, flags, POLLIN, &size)) return -1;
    return NEXT(recv)(fd, buffer, size, flags);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    if (settled(wish_for(" send "), fd, flags, POLLOUT, &size)) return -1;
    return NEXT(send)(fd, buffer, size, flags);
}

/* What recv() compiles to where the size of the buffer is known (_FORTIFY_SOURCE). */
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
    if (size > room) abort();
    return recv(fd, buffer, size, flags);
}

/* ---- Waiting ---------------------------------------------------------------------------------------------------------- */

INSTEAD(int, -1, poll, (struct pollfd *sockets, nfds_t number, int timeout), (sockets, number, timeout))
INSTEAD(int, -1, ppoll, (struct pollfd *s, nfds_t number, const struct timespec *timeout, const sigset_t *mask),
        (s, number, timeout, mask))
INSTEAD(int, -1, pselect, (int end, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask),
        (end, r, w, x, timeout, mask))
INSTEAD(int, -1, epoll_create1, (int flags), (flags))
INSTEAD(int, -1, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout), (fd, events, most, timeout))
/* EPOLL_CTL_DEL needs no memory, so it never fails here. */
INSTEAD_WHERE(operation != EPOLL_CTL_DEL, int, -1, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event),
              (epoll, operation, fd, event))
INSTEAD(int, -1, sigtimedwait, (const sigset_t *signals, siginfo_t *info, const struct timespec *timeout),
        (signals, info, timeout))
INSTEAD(int, -1, sigwaitinfo, (const sigset_t *signals, siginfo_t *info), (signals, info))
INSTEAD_WHERE((options & WNOHANG) == 0, pid_t, -1, waitpid, (pid_t child, int *status, int options), (child, status, options))

int nanosleep(const struct timespec *time, struct timespec *left) {
    if (!hit(wish_for(" nanosleep "))) return NEXT(nanosleep)(time, left);
    if (left) *left = *time; /* interrupted before it began */
    return -1;
}

/* ---- Processes and threads -------------------------------------------------------------------------------------------- */

INSTEAD(pid_t, -1, fork, (void), ())
INSTEAD(int, -1, eventfd, (unsigned count, int flags), (count, flags))
INSTEAD(int, errno, pthread_create, (pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with),
        (thread, attributes, run, with))

/* ---- SQLite's files, and the log -------------------------------------------------------------------------------------- */

#define INSTEAD_OF_OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                           \
        va_list list;                                                      \
        va_start(list, flags);                                             \
        mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;          \
        va_end(list);                                                      \
        if (hit(wish_for(" open "))) return -1;                            \
        return NEXT(name)(path, flags, mode);                              \
    }
INSTEAD_OF_OPEN(open)
INSTEAD_OF_OPEN(open64)

ssize_t pread64(int fd, void *buffer, size_t size, off64_t where) {
    if (fails(wish_for(" pread64 "), &size)) return -1;
    return NEXT(pread64)(fd, buffer, size, where);
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t where) {
    if (fails(wish_for(" pwrite64 "), &size)) return -1;
    return NEXT(pwrite64)(fd, buffer, size, where);
}

INSTEAD(int, -1, ftruncate64, (int fd, off64_t size), (fd, size))
INSTEAD(int, -1, fsync, (int fd), (fd))
INSTEAD(int, -1, fdatasync, (int fd), (fd))
INSTEAD_WHERE(fd == STDERR_FILENO, ssize_t, -1, write, (int fd, const void *buffer, size_t size), (fd, buffer, size))

/* ---- Memory, also that of operator new and SQLite --------------------------------------------------------------------- */
#ifndef WITHOUT_MEMORY /* set for ThreadSanitizer, which has an allocator of its own */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static bool no_room(size_t size) {
    const uint64_t wish = wish_for(" malloc ");
    return wish != 0 && size >= control->least && hit(wish);
}

void *malloc(size_t size) { return no_room(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t number, size_t size) { return no_room(number * size) ? NULL : __libc_calloc(number, size); }
void *realloc(void *old, size_t size) { return no_room(size) ? NULL : __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { return no_room(size) ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **to, size_t alignment, size_t size) {
    void *memory = aligned_alloc(alignment, size);
    if (memory) *to = memory;
    return memory ? 0 : ENOMEM;
}

INSTEAD(void *, MAP_FAILED, mmap, (void *where, size_t size, int protection, int flags, int fd, off_t offset),
        (where, size, protection, flags, fd, offset))
INSTEAD(void *, MAP_FAILED, mmap64, (void *where, size_t size, int protection, int flags, int fd, off64_t offset),
        (where, size, protection, flags, fd, offset))
INSTEAD(int, -1, mprotect, (void *where, size_t size, int protection), (where, size, protection))
#endif
