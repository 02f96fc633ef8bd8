/*
 * What the kernel and the C library may answer at any time, on demand: a call is interrupted, does less than it was asked
 * for, or has nothing left to give. Preloaded into a server (LD_PRELOAD, ld.so(8)), this stands before the calls that the
 * six programs and SQLite make, and has some of them fail as a test wants it. tests/suite_faults.py is that test.
 *
 * The test writes its wish into a file, which environment variable FAULTS names. Every process of the server maps it, so
 * that the wish is changed while they run and holds for workers and children, too. Nothing happens until it is armed.
 *
 * A call that would only say "not now" (EAGAIN, from a non-blocking socket) is neither counted nor failed: a loop that
 * never rests makes as many of them as it likes, and the tenth call would be another one each time. But where none is to be
 * hit at all, calls are counted for what they cost, and these cost as much.
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

/* The test's wish, and what came of it. suite_faults.py knows this layout (Faults.LAYOUT). */
struct control {
    /* The number of the wish that is armed, or 0, in the upper half; how many calls it has counted in the lower. One word,
       and no number comes twice: a call that began under another wish can tell, and is neither counted nor hit. */
    _Atomic uint64_t state;
    int32_t error;              /* errno of a call that is hit; 0: it does no more than one byte; LATE */
    uint32_t irregularly;       /* of those below, about every other one */
    uint64_t skip;              /* so many calls are spared first, */
    uint64_t times;             /* and so many are hit then */
    uint64_t least;             /* smaller allocations are spared */
    char calls[256];            /* which, by name, with a blank before and behind each */
};

/* The call is made as it was asked for, but not before a signal has come, or a second has passed. */
#define LATE (-1)

static struct control *control; /* none: there is no wish */
static bool tracing;            /* FAULTS_TRACE: each hit shows on standard error where it was */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *file = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    void *here;
    tracing = getenv("FAULTS_TRACE") && backtrace(&here, 1) > 0; /* its first call loads a library */
    if (file != MAP_FAILED) control = file;
}

/* The number of the wish that is armed, if it means this call; else 0. `call` has its blanks. */
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

/* For a second at most. By way of syscall(2): a sanitizer must not know of it, for it lets signals in where it sees a wait. */
static bool wait_for_a_signal(void) {
    NEXT(syscall)(SYS_nanosleep, &(struct timespec){.tv_sec = 1, .tv_nsec = 0}, NULL);
    return false;
}

/* Counts a call, and says whether it is hit; errno is set then. */
static bool hit(uint64_t wish) {
    if (wish == 0) return false;
    /* Read first: they are this wish's own if it is armed still, which the exchange finds out. */
    const uint64_t skip = control->skip, times = control->times;
    const bool irregularly = control->irregularly;
    const int error = control->error;
    uint64_t state = control->state;
    do {
        if (state >> 32 != wish) return false;
    } while (!atomic_compare_exchange_weak(&control->state, &state, state + 1));
    uint64_t number = state & UINT32_MAX;
    if (number < skip || number - skip >= times) return false;
    /* By the number of ones in its number (the Thue-Morse sequence): never three in a row, and without a period, so that it
       does not fall into step with a loop that makes two calls in turn. */
    if (irregularly && __builtin_popcountll(number) % 2 == 0) return false;
    if (tracing) {
        void *stack[40];
        backtrace_symbols_fd(stack, backtrace(stack, 40), STDERR_FILENO);
    }
    if (error == LATE) return wait_for_a_signal();
    errno = error;
    return true;
}

/* Of a call that moves bytes: whether it fails; if it is to do less instead, it is asked for one byte. */
static bool fails(uint64_t wish, size_t *size) {
    if (!hit(wish)) return false;
    if (errno != 0) return true;
    if (*size > 1) *size = 1;
    return false;
}

/* A function that fails with errno and the value `failed` if it is hit, and `where` holds. */
#define INSTEAD_WHERE(where, type, failed, name, parameters, arguments)   \
    type name parameters {                                                 \
        if ((where) && hit(wish_for(" " #name " "))) return failed;        \
        return NEXT(name) arguments;                                       \
    }
#define INSTEAD(type, failed, name, parameters, arguments) INSTEAD_WHERE(true, type, failed, name, parameters, arguments)

/* ---- Sockets ------------------------------------------------------------------------------------------------------------ */

/* Whether a call on this socket would only say that there is nothing to be done now. */
static bool not_now(int fd, int flags, short events) {
    if (control->times == 0) return false;
    if ((flags & MSG_DONTWAIT) == 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0) return false;
    return NEXT(poll)(&(struct pollfd){.fd = fd, .events = events, .revents = 0}, 1, 0) == 0;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    const uint64_t wish = wish_for(" accept4 ");
    if (wish != 0) {
        /* Not left to the real one: a client might arrive before that is called, and slip in. So with those below. */
        if (not_now(fd, 0, POLLIN)) return errno = EAGAIN, -1;
        if (hit(wish)) return -1;
    }
    return NEXT(accept4)(fd, address, size, flags);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    const uint64_t wish = wish_for(" recv ");
    if (wish != 0) {
        if (not_now(fd, flags, POLLIN)) return errno = EAGAIN, -1;
        if (fails(wish, &size)) return -1;
    }
    return NEXT(recv)(fd, buffer, size, flags);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    const uint64_t wish = wish_for(" send ");
    if (wish != 0) {
        if (not_now(fd, flags, POLLOUT)) return errno = EAGAIN, -1;
        if (fails(wish, &size)) return -1;
    }
    return NEXT(send)(fd, buffer, size, flags);
}

/* What a recv() is compiled to where the size of the buffer is known (_FORTIFY_SOURCE). */
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
    if (size > room) abort();
    return recv(fd, buffer, size, flags);
}

/* Stage 6's stackful flavor has recv and send of its own, which come here. */
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; ++i) a[i] = va_arg(list, long);
    va_end(list);
    size_t size = (size_t)a[2];
    const uint64_t wish = number == SYS_recvfrom ? wish_for(" recv ") : number == SYS_sendto ? wish_for(" send ") : 0;
    if (wish != 0) {
        if (not_now((int)a[0], (int)a[3], number == SYS_recvfrom ? POLLIN : POLLOUT)) return errno = EAGAIN, -1;
        if (fails(wish, &size)) return -1;
    }
    return NEXT(syscall)(number, a[0], a[1], (long)size, a[3], a[4], a[5]);
}

/* ---- Waiting ------------------------------------------------------------------------------------------------------------ */

INSTEAD(int, -1, poll, (struct pollfd *sockets, nfds_t number, int timeout), (sockets, number, timeout))
INSTEAD(int, -1, ppoll, (struct pollfd *s, nfds_t number, const struct timespec *timeout, const sigset_t *mask),
        (s, number, timeout, mask))
INSTEAD(int, -1, pselect, (int end, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask),
        (end, r, w, x, timeout, mask))
INSTEAD(int, -1, epoll_create1, (int flags), (flags))
INSTEAD(int, -1, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout), (fd, events, most, timeout))
/* To forget a descriptor needs no memory. */
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

/* ---- Processes and threads ---------------------------------------------------------------------------------------------- */

INSTEAD(pid_t, -1, fork, (void), ())
INSTEAD(int, -1, eventfd, (unsigned count, int flags), (count, flags))
INSTEAD(int, errno, pthread_create, (pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with),
        (thread, attributes, run, with))

/* ---- Files, which are SQLite's; and the log ----------------------------------------------------------------------------- */

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

/* ---- Memory: operator new, and SQLite, end here ------------------------------------------------------------------------- */
#ifndef WITHOUT_MEMORY /* as for ThreadSanitizer, which has an allocator of its own */

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
