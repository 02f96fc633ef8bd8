#include "master.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "deadlines.hpp"
#include "log.hpp"
#include "room.hpp"
#include "start.hpp"
#include "stop.hpp"

namespace {

using Serve = std::function<void(const Listener&)>;

/// A worker that does not live so long has died young. Where one after another does, so much time lies between their births.
constexpr auto youth = std::chrono::seconds(1);

/// Gives the process a name for people, `stage2: worker`: its name, which pstree(1) and top(1) show (no more than 15 bytes,
/// prctl(2)), and in the place of its command line, which ps(1) shows (proc(5), under /proc/pid/cmdline).
void name_process(const Options& options, const char* role) {
    const std::string& program = options.about.name;
    const std::string name = fmt::format("{}: {}", program.substr(0, program.find('_')), role);
    prctl(PR_SET_NAME, name.c_str());
    if (options.command_line.size() <= name.size()) return;
    std::fill(options.command_line.begin(), options.command_line.end(), '\0');
    std::copy(name.begin(), name.end(), options.command_line.begin());
}

class Master {
   public:
    Master(const Service& service, const Serve& serve);
    /// Before run(): a place for a worker with this listener.
    void add_place(Listener& listener) { places_.push_back({.listener = &listener}); }
    /// `shared`: every worker has this listener, so that their number may change.
    int run(Listener* shared);

   private:
    /// A worker's place: who comes after it has the same listener.
    struct Place {
        Listener* listener;
        pid_t worker = 0;  // none yet, or not any more
        TimePoint born;
        int died_young = 0;    // so many one after another
        TimePoint next_birth;  // not before
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
    sigset_t signals_;           // blocked but in next_signal()
    sigset_t usual_;
    std::vector<Place> places_;
    std::vector<pid_t> workers_;  // those retired, too, who serve whom they have, while others have taken their places
};

std::string signal_name(int signal) {
    const char* const name = sigabbrev_np(signal);  // none for real-time signals
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

/// nohup(1) makes the server ignore the terminal's end.
bool is_ignored(int signal) noexcept {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    return action.sa_handler == SIG_IGN;
}

/// Whether there is, or can be made, room for one more; errno says why not.
template <class T>
bool has_room(std::vector<T>& list) noexcept {
    try {
        make_room(list, list.size() + 1);
        return true;
    } catch (const std::bad_alloc&) {
        errno = ENOMEM;
        return false;
    }
}

Master::Master(const Service& service, const Serve& serve)
    : service_(service), serve_(serve), hangup_ignored_(is_ignored(SIGHUP)) {
    // Signals are taken one by one in next_signal(), so that none comes between a look at the workers and the wait for the
    // next event. A worker begins with all of them blocked, and takes none before its handlers are in place.
    sigemptyset(&signals_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGTTIN, SIGTTOU, stop::retire_signal})
        sigaddset(&signals_, signal);
    sigprocmask(SIG_BLOCK, &signals_, &usual_);
    std::signal(SIGCHLD, SIG_DFL);  // ignored by whoever started us, it would not come (sigaction(2))
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
            default: break;  // none came, and a place may be filled
        }
    }
    return stop::end(std::move(workers_), signals_, tell_how_it_ended);
}

void Master::fill_places() {
    for (Place& place : places_)
        if (place.worker == 0 && Clock::now() >= place.next_birth) boot(place);
}

/// False where there is no process to be had.
bool Master::boot(Place& place) {
    place.born = Clock::now();
    const pid_t worker = has_room(workers_) ? fork() : -1;  // one who could not be remembered must not be born
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

/// What a worker does, from its birth to its end.
void Master::work(Listener& listener) {
    try {
        stop::in_worker(pid_);
        listener.in_worker();
        sigprocmask(SIG_SETMASK, &usual_, nullptr);
        name_process(service_.options, "worker");
        logging::info("Booting worker with pid: {}", getpid());
        serve_(listener);
        logging::info("Worker exiting (pid: {})", getpid());
        std::exit(0);
    } catch (const std::exception& error) {
        logging::error("Exception in worker process: {}", error.what());
        std::exit(1);
    }
}

/// The next signal for the master, or 0 when none came and it is time to fill a place.
int Master::next_signal() {
    TimePoint until = TimePoint::max();
    for (const Place& place : places_)
        if (place.worker == 0) until = std::min(until, place.next_birth);
    const timespec timeout = time_left(until);
    siginfo_t info{};
    if (sigtimedwait(&signals_, &info, until == TimePoint::max() ? nullptr : &timeout) < 0) return 0;
    if (info.si_code != SI_KERNEL) return info.si_signo;
    // Not somebody's kill(1), but the kernel's: of these the terminal's are not meant for a master. Its end, unless it is to
    // be ignored, is the server's; that a background process writes to it (SIGTTOU) is of no concern.
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
        // The new one first, so that there is always one who accepts; and better an old one than none.
        if (!boot(place))
            place.worker = old;
        else if (old != 0)
            kill(old, stop::retire_signal);
    }
}

/// The oldest, and never the last.
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
