#include "process/master.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "process/start.hpp"
#include "sockets/deadlines.hpp"
#include "sockets/stop.hpp"

namespace {

using Serve = std::function<void(const Listener&)>;

/// A worker that fails within this time has died young. If the next one in its place does, too, replacements come this far
/// apart.
constexpr auto youth = std::chrono::seconds(1);

/// Names the process for people, as in `stage2: worker`. This sets its name, which pstree(1) and top(1) show (at most 15
/// bytes, prctl(2)), and overwrites its command line, which ps(1) shows (proc(5), under /proc/pid/cmdline).
void name_process(const Options& options, const char* role) {
    const std::string& program = options.about.name;
    const std::string name = fmt::format("{}: {}", program.substr(0, program.find('_')), role);
    prctl(PR_SET_NAME, name.c_str());
    if (options.command_line.size() <= name.size()) return;
    std::fill(options.command_line.begin(), options.command_line.end(), '\0');
    std::copy(name.begin(), name.end(), options.command_line.begin());
}

/// Wakes a worker that waits for a client when it must accept no more. Retiring a worker cannot shut the listener down,
/// because others share it, but it does shut down the clients that have been answered. So the bell is a socket that is
/// registered as such a client. As long as it lives, the worker watches it beside the listener.
class Bell {
   public:
    explicit Bell(Listener& listener);

   private:
    const Fd socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    std::optional<stop::Registration> registration_;
};

Bell::Bell(Listener& listener) {
    Fd both(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN, .data = {}};
    for (const int fd : {listener.get(), socket_.get()})
        if (!both || !socket_ || epoll_ctl(both.get(), EPOLL_CTL_ADD, fd, &event) != 0)
            throw std::system_error(errno, std::generic_category(), "cannot watch the listener");
    listener.watch(std::move(both));
    registration_.emplace(socket_.get());
    stop::answered(socket_.get());
}

class Master {
   public:
    Master(const Service& service, const Serve& serve);
    /// Adds a place for a worker with this listener. At least one before run().
    void add_place(Listener& listener) { places_.push_back({.listener = &listener}); }
    /// `shared`: the listener of all workers, whose number may then change; null if each has its own.
    int run(Listener* shared);

   private:
    /// A worker's place: its replacement gets the same listener.
    struct Place {
        Listener* listener;
        pid_t worker = 0;  // 0: none now
        TimePoint born;
        int died_young = 0;    // how many in a row
        TimePoint next_birth;  // not before this
    };

    void fill_places();
    bool boot(Place& place);
    [[noreturn]] void work(Listener& listener);
    int next_signal();
    void reap();
    void renew();
    void take_one_away();

    const Service& service_;
    const Serve& serve_;
    const pid_t pid_ = getpid();
    const bool hangup_ignored_;  // by nohup(1)
    const bool had_terminal_;
    sigset_t signals_;  // blocked except in next_signal()
    std::vector<Place> places_;
    std::vector<pid_t> workers_;  // including retired ones, which have lost their places but still serve clients
};

std::string signal_name(int signal) {
    const char* const name = sigabbrev_np(signal);  // null for real-time signals
    return name ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

void tell_how_it_ended(pid_t worker, int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        logging::critical("WORKER TIMEOUT (pid:{})", worker);
    else if (WIFSIGNALED(status))
        logging::error("Worker (pid:{}) was sent {}!", worker, signal_name(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        logging::error("Worker (pid:{}) exited with code {}", worker, WEXITSTATUS(status));
}

/// nohup(1) starts a program with SIGHUP ignored.
bool is_ignored(int signal) noexcept {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    return action.sa_handler == SIG_IGN;
}

/// Whether the session has a terminal, wherever input and output go (tty(4)). ENXIO: it has none, or none any more. EIO: the
/// terminal is being closed.
bool has_terminal() noexcept {
    const Fd terminal(open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC));
    return terminal || (errno != ENXIO && errno != EIO);
}

/// Makes room for one more element. False, with errno, if there is no memory.
template <class T>
bool has_room(std::vector<T>& list) noexcept {
    try {
        if (list.size() == list.capacity()) list.reserve(2 * list.size() + 1);
        return true;
    } catch (const std::bad_alloc&) {
        errno = ENOMEM;
        return false;
    }
}

Master::Master(const Service& service, const Serve& serve)
    : service_(service), serve_(serve), hangup_ignored_(is_ignored(SIGHUP)), had_terminal_(has_terminal()) {
    // next_signal() takes signals one by one, so that none comes between a look at the workers and the wait for the next
    // event. A worker starts with all of them blocked, so it takes none before its handlers are in place.
    sigemptyset(&signals_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGTTIN, SIGTTOU, stop::retire_signal})
        sigaddset(&signals_, signal);
    sigprocmask(SIG_SETMASK, &signals_, nullptr);
    std::signal(SIGCHLD, SIG_DFL);  // if our starter ignored it, it would not come (sigaction(2))
    stop::in_parent();
    name_process(service.options, "master");
}

int Master::run(Listener* shared) {
    const Ready ready(service_, *places_[0].listener);
    if (service_.options.db == ":memory:") logging::info("With :memory: each worker has tasks of its own");
    while (!stop::requested()) {
        fill_places();
        const int signal = next_signal();
        if (signal == SIGHUP || signal == SIGTTIN || signal == SIGTTOU)
            logging::info("Handling signal: {}", signal == SIGHUP ? "hup" : signal == SIGTTIN ? "ttin" : "ttou");
        switch (signal) {
            case SIGCHLD: reap(); break;
            case SIGHUP: renew(); break;
            case SIGTTIN:
                if (shared && has_room(places_)) add_place(*shared);
                break;
            case SIGTTOU:
                if (shared) take_one_away();
                break;
            case SIGINT:
            case SIGTERM: stop::take(signal); break;
            default: break;  // perhaps it is time to fill a place
        }
    }
    return stop::end(std::move(workers_), signals_, tell_how_it_ended);
}

void Master::fill_places() {
    for (Place& place : places_)
        if (place.worker == 0 && Clock::now() >= place.next_birth) boot(place);
}

/// False if no process can be created.
bool Master::boot(Place& place) {
    place.born = Clock::now();
    const pid_t worker = has_room(workers_) ? fork() : -1;  // room first, because every worker must be remembered
    if (worker == 0) work(*place.listener);
    if (worker < 0) {
        logging::error("Cannot fork a worker: {}; trying again", std::strerror(errno));
        place.next_birth = place.born + youth;
        return false;
    }
    place.worker = worker;
    workers_.push_back(worker);
    return true;
}

/// What a worker does, from fork(2) to its exit.
void Master::work(Listener& listener) {
    try {
        stop::in_worker(pid_);
        const Bell bell(listener);
        sigprocmask(SIG_UNBLOCK, &signals_, nullptr);
        name_process(service_.options, "worker");
        logging::info("Booting worker with pid: {}", getpid());
        serve_(listener);
        logging::info("Worker exiting (pid: {})", getpid());
        std::exit(0);
    } catch (const std::exception& error) {
        logging::error("Exception in worker process: {}", logging::reason(error));
        std::exit(1);
    }
}

/// The next signal to act on. 0: it is time to fill a place, or the signal does not concern the master.
int Master::next_signal() {
    TimePoint until = TimePoint::max();
    for (const Place& place : places_)
        if (place.worker == 0) until = std::min(until, place.next_birth);
    const timespec timeout = time_left(until);
    siginfo_t info{};
    if (sigtimedwait(&signals_, &info, until == TimePoint::max() ? nullptr : &timeout) < 0) return 0;
    // When the terminal goes, SIGHUP comes from the kernel or, through kill(2), from the shell that leads the session. Your
    // `kill -HUP %1` comes from that shell, too, but then the terminal is still there.
    const bool passed_on = info.si_signo == SIGHUP && info.si_pid == getsid(0) && had_terminal_ && !has_terminal();
    if (info.si_code != SI_KERNEL && !passed_on) return info.si_signo;
    // From the terminal, SIGHUP, SIGTTIN and SIGTTOU are not commands to the master. The terminal's end stops the server,
    // unless SIGHUP was ignored. The other two tell of a background process that uses the terminal, and are ignored.
    switch (info.si_signo) {
        case SIGHUP: return hangup_ignored_ ? 0 : SIGTERM;
        case SIGTTIN:
        case SIGTTOU: return 0;
        default: return info.si_signo;
    }
}

void Master::reap() {
    stop::reap(workers_, [this](pid_t worker, int status) {
        tell_how_it_ended(worker, status);
        const auto place = std::find_if(places_.begin(), places_.end(), [=](const Place& p) { return p.worker == worker; });
        if (place == places_.end()) return;  // it was retired
        place->worker = 0;
        const bool young = status != 0 && Clock::now() < place->born + youth;
        place->died_young = young ? place->died_young + 1 : 0;
        place->next_birth = place->died_young > 1 ? place->born + youth : place->born;
    });
}

void Master::renew() {
    for (Place& place : places_) {
        const pid_t old = std::exchange(place.worker, 0);
        // The new worker first, so that one always accepts. If it cannot be forked, the old one stays.
        if (!boot(place))
            place.worker = old;
        else if (old != 0)
            kill(old, stop::retire_signal);
    }
}

/// Retires the oldest worker, but never the last one.
void Master::take_one_away() {
    if (places_.size() == 1) return;
    const auto older = [](const Place& a, const Place& b) { return a.born < b.born; };
    const auto oldest = std::min_element(places_.begin(), places_.end(), older);
    if (oldest->worker != 0) kill(oldest->worker, stop::retire_signal);
    places_.erase(oldest);
}

}  // namespace

int supervise(const Service& service, Listener& shared, int workers, const Serve& serve) {
    Master master(service, serve);
    for (int i = 0; i < workers; ++i) master.add_place(shared);
    return master.run(&shared);
}

int supervise(const Service& service, std::vector<Listener>& listeners, const Serve& serve) {
    Master master(service, serve);
    for (Listener& listener : listeners) master.add_place(listener);
    return master.run(nullptr);
}
