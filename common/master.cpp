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
#include <set>
#include <utility>
#include <vector>

#include "deadlines.hpp"
#include "log.hpp"
#include "stop.hpp"

namespace {

using Serve = std::function<void(const Listener&)>;

/// No place is filled more often than that after a failure.
constexpr auto between_births = std::chrono::seconds(1);

class Master {
   public:
    Master(const Service& service, std::span<Listener> listeners, int workers, const Serve& serve);
    int run();

   private:
    /// A worker's place: who comes after it has the same listener.
    struct Place {
        Listener* listener;
        pid_t worker = 0;  // none yet, or not any more
        TimePoint born;
        TimePoint next_birth;  // not before
    };

    void fill_places();
    bool boot(Place& place);
    [[noreturn]] void work(Listener& listener);
    int next_signal();
    void reap();
    void renew();
    void add_one();
    void take_one_away();
    void retire(pid_t worker);

    const Service& service_;
    const std::span<Listener> listeners_;
    const Serve& serve_;
    const pid_t pid_ = getpid();
    sigset_t signals_;  // blocked but in next_signal()
    sigset_t usual_;
    std::vector<Place> places_;
    std::set<pid_t> retired_;  // they serve whom they have, and nobody takes their place
};

Master::Master(const Service& service, std::span<Listener> listeners, int workers, const Serve& serve)
    : service_(service), listeners_(listeners), serve_(serve) {
    for (int i = 0; i < workers; ++i)
        places_.push_back({.listener = &listeners[static_cast<std::size_t>(i) % listeners.size()]});
    stop::in_parent();
    name_process(service.options, "master");
    if (service.options.db == ":memory:") logging::info("With :memory: each worker has tasks of its own");
    // Signals are taken one by one in next_signal(), so that none comes between a look at the workers and the wait for the
    // next event. A worker begins with all of them blocked, and takes none before its handlers are in place.
    sigemptyset(&signals_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGTTIN, SIGTTOU, stop::retire_signal})
        sigaddset(&signals_, signal);
    sigprocmask(SIG_BLOCK, &signals_, &usual_);
}

int Master::run() {
    while (!stop::requested()) {
        fill_places();
        switch (const int signal = next_signal()) {
            case SIGCHLD: reap(); break;
            case SIGHUP: renew(); break;
            case SIGTTIN: add_one(); break;
            case SIGTTOU: take_one_away(); break;
            case SIGINT:
            case SIGTERM: stop::take(signal); break;
            default: break;  // none came, and a place may be filled
        }
    }
    std::set<pid_t> workers = retired_;
    for (const Place& place : places_)
        if (place.worker != 0) workers.insert(place.worker);
    return stop::end(workers, signals_);
}

void Master::fill_places() {
    for (Place& place : places_)
        if (place.worker == 0 && Clock::now() >= place.next_birth) boot(place);
}

/// False where there is no process to be had.
bool Master::boot(Place& place) {
    place.born = Clock::now();
    const pid_t worker = fork();
    if (worker == 0) work(*place.listener);
    if (worker < 0) {
        logging::error("Cannot fork a worker: {}; trying again", std::strerror(errno));
        place.next_birth = place.born + between_births;
        return false;
    }
    place.worker = worker;
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

/// The next signal, or -1 when it is time to fill a place.
int Master::next_signal() {
    TimePoint until = TimePoint::max();
    for (const Place& place : places_)
        if (place.worker == 0) until = std::min(until, place.next_birth);
    if (until == TimePoint::max()) return sigwaitinfo(&signals_, nullptr);
    const timespec timeout = time_left(until);
    return sigtimedwait(&signals_, nullptr, &timeout);
}

/// One SIGCHLD may stand for several workers.
void Master::reap() {
    int status = 0;
    for (pid_t worker; (worker = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            logging::write("CRITICAL", fmt::format("WORKER TIMEOUT (pid:{})", worker));
        else if (WIFSIGNALED(status))
            logging::error("Worker (pid:{}) was sent SIG{}!", worker, sigabbrev_np(WTERMSIG(status)));
        else if (WEXITSTATUS(status) != 0)
            logging::error("Worker (pid:{}) exited with code {}", worker, WEXITSTATUS(status));
        retired_.erase(worker);
        for (Place& place : places_) {
            if (place.worker != worker) continue;
            place.worker = 0;
            place.next_birth = status == 0 ? place.born : place.born + between_births;
        }
    }
}

void Master::renew() {
    logging::info("Handling signal: hup");
    for (Place& place : places_) {
        const pid_t old = std::exchange(place.worker, 0);
        // The new one first, so that there is always one who accepts; and better an old one than none.
        if (boot(place) && old != 0) retire(old);
        if (place.worker == 0) place.worker = old;
    }
}

void Master::add_one() {
    logging::info("Handling signal: ttin");
    if (listeners_.size() == 1)
        places_.push_back({.listener = listeners_.data()});
    else
        logging::info("Each worker has a listening socket of its own, so their number stays {}", places_.size());
}

/// The oldest, and never the last.
void Master::take_one_away() {
    logging::info("Handling signal: ttou");
    if (listeners_.size() > 1) {
        logging::info("Each worker has a listening socket of its own, so their number stays {}", places_.size());
        return;
    }
    if (places_.size() == 1) return;
    const auto older = [](const Place& a, const Place& b) { return a.born < b.born; };
    const auto oldest = std::min_element(places_.begin(), places_.end(), older);
    if (oldest->worker != 0) retire(oldest->worker);
    places_.erase(oldest);
}

void Master::retire(pid_t worker) {
    retired_.insert(worker);
    kill(worker, stop::retire_signal);
}

}  // namespace

int supervise(const Service& service, std::span<Listener> listeners, int workers, const Serve& serve) {
    return Master(service, listeners, workers, serve).run();
}

void name_process(const Options& options, const char* role) {
    const std::string& program = options.about.name;
    const std::string name = fmt::format("{}: {}", program.substr(0, program.find('_')), role);
    prctl(PR_SET_NAME, name.c_str());
    if (options.command_line.size() <= name.size()) return;
    std::fill(options.command_line.begin(), options.command_line.end(), '\0');
    std::copy(name.begin(), name.end(), options.command_line.begin());
}
