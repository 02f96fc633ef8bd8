#include "stop.hpp"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include "limits.hpp"

namespace stop {

namespace {

// timeout(1) signals its child and then its group, so that one stop arrives twice within microseconds. No one insists as
// quickly as this.
constexpr std::int64_t echo_ns = 50'000'000;

// All that the handler touches: lock-free atomics and constants. Untouched pages of the table cost nothing.
enum class State : std::uint8_t { none, listener, fresh, answered };
std::array<std::atomic<State>, descriptor_limit> served;
std::atomic<int> served_end{0};  // above the highest descriptor ever served
std::atomic<int> first_signal{0};
std::atomic<std::int64_t> first_at{0};
enum class Role : std::uint8_t { alone, parent, child };
std::atomic<Role> role{Role::alone};
std::atomic<pid_t> parent_pid{0};  // a child's
std::atomic<bool> asked_again{false};
std::atomic<bool> retired{false};
std::atomic<int> bell_fd{-1};
static_assert(std::atomic<State>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

std::string last_words;
std::string pid_file_path;

std::int64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

std::atomic<State>& state(int fd) noexcept { return served[static_cast<std::size_t>(fd)]; }

/// On everybody who has got so far.
void hang_up_on(State least) noexcept {
    for (int fd = 0; fd < served_end; ++fd)
        if (state(fd) >= least) shutdown(fd, SHUT_RD);
}

void ring() noexcept {
    const std::uint64_t one = 1;
    if (bell_fd >= 0) static_cast<void>(!::write(bell_fd, &one, sizeof one));
}

void retire(int /*signal*/) {
    const int saved = errno;
    retired = true;
    ring();
    hang_up_on(State::answered);
    errno = saved;
}

void install(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
}

}  // namespace

void take(int signal) {
    const int saved = errno;
    if (first_signal == 0) {
        first_at = now_ns();
        first_signal = signal;
        alarm(grace_seconds);
        ring();
        const bool in_family = role == Role::child && getppid() == parent_pid;
        hang_up_on(in_family ? State::fresh : State::listener);
    } else if (signal == SIGALRM || now_ns() - first_at > echo_ns) {
        asked_again = true;
        // A parent has children to end first. A child leaves it to its parent, but does not outstay the time; it is for the
        // parent to say so.
        if (role == Role::alone) cut_off();
        if (role == Role::child && signal == SIGALRM) _exit(1);
    }
    errno = saved;
}

void on_signals(const std::string& program, const std::string& pid_file) {
    last_words = fmt::format("{}: cut off what was still in progress\n", program);
    pid_file_path = pid_file;
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) install(SIGHUP, take);
    for (const int signal : {SIGALRM, SIGINT, SIGTERM}) install(signal, take);
}

void in_parent() noexcept { role = Role::parent; }

void reap(std::vector<pid_t>& children, const std::function<void(pid_t child, int status)>& ended) {
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)  // one SIGCHLD may stand for several of them
        if (std::erase(children, pid) > 0 && ended) ended(pid, status);
}

int end(std::vector<pid_t> children, const sigset_t& signals, const std::function<void(pid_t child, int status)>& ended) {
    bool well = true;
    const auto note = [&](pid_t child, int status) {
        well = well && status == 0;
        if (ended) ended(child, status);
    };
    for (const pid_t child : children) kill(child, SIGTERM);
    reap(children, note);
    while (!children.empty() && !asked_again) {
        const int signal = sigwaitinfo(&signals, nullptr);
        if (signal == SIGINT || signal == SIGTERM || signal == SIGALRM) take(signal);
        reap(children, note);
    }
    if (children.empty() && well) return 0;
    for (const pid_t child : children) kill(child, SIGKILL);
    for (const pid_t child : children) waitpid(child, nullptr, 0);
    cut_off();
}

void in_child(pid_t parent) {
    role = Role::child;
    parent_pid = parent;
    pid_file_path.clear();
    for (const int signal : {SIGINT, SIGHUP, SIGTTIN, SIGTTOU}) install(signal, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) raise(SIGTERM);  // it died before the line above
}

void in_worker(pid_t master) {
    bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell_fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    install(retire_signal, retire);
    in_child(master);
}

int bell() noexcept { return bell_fd; }
bool requested() noexcept { return first_signal != 0; }
bool leaving() noexcept { return requested() || retired; }

const char* signal_name() noexcept {
    const int signal = first_signal;
    return signal == SIGINT ? "int" : signal == SIGHUP ? "hup" : "term";
}

void cut_off() noexcept {
    static_cast<void>(!::write(STDERR_FILENO, last_words.data(), last_words.size()));
    if (!pid_file_path.empty()) ::unlink(pid_file_path.c_str());
    ::_exit(1);
}

Served::Served(int fd, As as) noexcept : fd_(fd) {
    state(fd) = as == As::listener ? State::listener : State::fresh;
    for (int end = served_end; end <= fd && !served_end.compare_exchange_weak(end, fd + 1);) {
    }
    if (requested()) shutdown(fd, SHUT_RD);
}

Served::Served(Served&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

void Served::end() noexcept {
    if (fd_ >= 0) state(std::exchange(fd_, -1)) = State::none;
}

void answered(int fd) noexcept {
    if (state(fd) == State::answered) return;
    state(fd) = State::answered;
    if (retired) shutdown(fd, SHUT_RD);
}

bool hung_up(int fd) noexcept { return requested() || (retired && state(fd) == State::answered); }

}  // namespace stop
