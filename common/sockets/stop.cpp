#include "sockets/stop.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/log.hpp"

namespace stop {

namespace {

// timeout(1) signals its child and then its group, so one stop arrives twice within microseconds. No person asks twice this
// quickly.
constexpr std::int64_t echo_ns = 50'000'000;

// The handler touches only lock-free atomics and constants. Pages of the table that nothing touches take no memory.
enum class State : std::uint8_t { none, parting, listener, fresh, answered };
std::array<std::atomic<State>, descriptor_limit> served;
std::atomic<int> served_end{0};  // above the highest descriptor ever served
std::atomic<int> first_signal{0};
std::atomic<std::int64_t> first_at{0};
enum class Role : std::uint8_t { alone, parent, child };
std::atomic<Role> role{Role::alone};
std::atomic<pid_t> parent_pid{0};  // set in a child
std::atomic<bool> asked_again{false};
std::atomic<bool> retired{false};
static_assert(std::atomic<State>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

std::string last_words;
void (*last_act)() noexcept = nullptr;

std::int64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

std::atomic<State>& state(int fd) noexcept { return served[static_cast<std::size_t>(fd)]; }

/// On every socket whose state is at least this.
void hang_up_on(State least) noexcept {
    for (int fd = 0; fd < served_end; ++fd)
        if (state(fd) >= least) shutdown(fd, SHUT_RD);
}

void retire(int /*signal*/) {
    const int saved = errno;
    retired = true;
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
        const bool in_family = role == Role::child && getppid() == parent_pid;
        hang_up_on(in_family ? State::fresh : State::listener);
    } else if (signal == SIGALRM || now_ns() - first_at > echo_ns) {
        asked_again = true;
        // A parent must end its children first. A child leaves a second signal to its parent. When the time is up, it exits
        // and leaves the message to its parent.
        if (role == Role::alone) cut_off();
        if (role == Role::child && signal == SIGALRM) _exit(1);
    }
    errno = saved;
}

void on_signals(const std::string& program, void (*last)() noexcept) {
    last_act = last;
    last_words = fmt::format("{}: cut off what was still in progress\n", program);
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) install(SIGHUP, take);
    for (const int signal : {SIGALRM, SIGINT, SIGTERM}) install(signal, take);
    if (role != Role::parent) {  // a parent takes its signals and reaps its children itself
        install(SIGCHLD, SIG_IGN);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
    }
    while (waitpid(-1, nullptr, WNOHANG) > 0) {  // no signal will come for children that died before
    }
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
    logging::in_child();
    role = Role::child;
    parent_pid = parent;
    for (const int signal : {SIGINT, SIGHUP, SIGTTIN, SIGTTOU}) install(signal, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) raise(SIGTERM);  // the parent died before the line above
}

void in_worker(pid_t master) {
    install(retire_signal, retire);
    in_child(master);
}

bool requested() noexcept { return first_signal != 0; }
bool leaving() noexcept { return requested() || retired; }

const char* signal_name() noexcept {
    const int signal = first_signal;
    return signal == SIGINT ? "int" : signal == SIGHUP ? "hup" : "term";
}

void cut_off() noexcept {
    logging::put(last_words);
    last_act();
    ::_exit(1);
}

Registration::Registration(int fd, As as) noexcept : fd_(fd) {
    state(fd) = as == As::listener ? State::listener : State::fresh;
    for (int end = served_end; end <= fd && !served_end.compare_exchange_weak(end, fd + 1);) {
    }
    if (requested()) shutdown(fd, SHUT_RD);
}

Registration::Registration(Registration&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

void Registration::end() noexcept {
    if (fd_ >= 0) state(std::exchange(fd_, -1)) = State::none;
}

void answered(int fd) noexcept {
    if (state(fd) == State::answered || state(fd) == State::parting) return;
    state(fd) = State::answered;
    if (retired) shutdown(fd, SHUT_RD);
}

bool parting(int fd) noexcept {
    // This writes the state, then reads the flags. The handler writes its flag, then reads the state. So at least one of the
    // two sees the other.
    const State before = state(fd).exchange(State::parting);
    const bool too_late = requested() || (retired && before == State::answered);
    if (too_late) state(fd) = before;
    return !too_late;
}

bool hung_up(int fd) noexcept { return requested() || (retired && state(fd) == State::answered); }

}  // namespace stop
