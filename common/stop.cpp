#include "stop.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <utility>

#include "limits.hpp"

namespace stop {

namespace {

constexpr unsigned grace_seconds = 10;

// timeout(1) signals its child and then its group, so that one stop arrives twice within microseconds. No one insists as
// quickly as this.
constexpr std::int64_t echo_ns = 50'000'000;

// All that the handler touches: lock-free atomics and constants. Untouched pages of the table cost nothing.
std::array<std::atomic<bool>, descriptor_limit> served;
std::atomic<int> served_end{0};  // above the highest descriptor ever served
std::atomic<int> listening{-1};
std::atomic<int> first_signal{0};
std::atomic<std::int64_t> first_at{0};
std::atomic<bool> insistent{false};
enum class Role : std::uint8_t { alone, parent, child };
std::atomic<Role> role{Role::alone};
std::atomic<bool> asked_again{false};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

std::string last_words;
std::string pid_file_path;

std::int64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

void handle(int signal) {
    const int saved = errno;
    if (first_signal == 0) {
        first_at = now_ns();
        first_signal = signal;
        alarm(grace_seconds);
        if (listening >= 0) shutdown(listening, SHUT_RD);
        for (int fd = 0; fd < served_end; ++fd)
            if (served[static_cast<std::size_t>(fd)]) shutdown(fd, SHUT_RD);
    } else if (signal == SIGALRM || now_ns() - first_at > echo_ns) {
        asked_again = true;
        // A parent has children to end first. A child leaves it to its parent, but does not outstay the time.
        if (role == Role::alone || (role == Role::child && signal == SIGALRM)) cut_off();
    }
    errno = saved;
}

void install(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
}

}  // namespace

void on_signals(const std::string& program, const std::string& pid_file, int listener) {
    last_words = fmt::format("{}: cut off what was still in progress\n", program);
    pid_file_path = pid_file;
    listening = listener;
    install(SIGPIPE, SIG_IGN);
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) install(SIGHUP, handle);
    for (const int signal : {SIGALRM, SIGINT, SIGTERM}) install(signal, handle);
}

void in_parent() noexcept { role = Role::parent; }

void in_child(pid_t parent) {
    role = Role::child;
    listening = -1;
    pid_file_path.clear();
    install(SIGINT, SIG_IGN);
    install(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) raise(SIGTERM);  // it died before the line above
}

bool insisted() noexcept { return asked_again; }
bool requested() noexcept { return first_signal != 0; }

const char* signal_name() noexcept {
    const int signal = first_signal;
    return signal == SIGINT ? "int" : signal == SIGHUP ? "hup" : "term";
}

void cut_off() noexcept {
    static_cast<void>(!::write(STDERR_FILENO, last_words.data(), last_words.size()));
    if (!pid_file_path.empty()) ::unlink(pid_file_path.c_str());
    ::_exit(1);
}

Served::Served(int fd) noexcept : fd_(fd) {
    served[static_cast<std::size_t>(fd)] = true;
    for (int end = served_end; end <= fd && !served_end.compare_exchange_weak(end, fd + 1);) {
    }
    if (requested()) shutdown(fd, SHUT_RD);
}

Served::Served(Served&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Served::~Served() {
    if (fd_ >= 0) served[static_cast<std::size_t>(fd_)] = false;
}

}  // namespace stop
