#include "start.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

#include "limits.hpp"
#include "log.hpp"
#include "stop.hpp"
#include "tasks.hpp"
#include "text.hpp"

namespace {

/// A client is a descriptor. Shells often allow 1,024, a number from the days of select(2); the hard limit is the real one.
void raise_descriptor_limit() noexcept {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, descriptor_limit);
    setrlimit(RLIMIT_NOFILE, &limit);
}

void write_pid_file(const std::string& path) {
    const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    const std::string pid = fmt::format("{}\n", getpid());
    if (!file || write(file.get(), pid.data(), pid.size()) != static_cast<ssize_t>(pid.size()))
        throw std::system_error(errno, std::generic_category(), "cannot write the pid file " + printable(path));
}

}  // namespace

Ready::Ready(const Service& service, const Listener& listener) : pid_file_(service.options.pid_file), owner_(getpid()) {
    const Options& options = service.options;
    if (options.quiet) logging::set_level(logging::Level::quiet);
    if (options.verbose) logging::set_level(logging::Level::verbose);
    raise_descriptor_limit();
    // Both come to whoever writes, and would end the server: to a client who has gone, and past the permitted size of a file
    // (RLIMIT_FSIZE). Ignored, they leave an error for the call to return.
    for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
    try {
        Tasks(options.db).open();
    } catch (const TasksError& error) {
        throw std::runtime_error(fmt::format("cannot open the database {}: {}", printable(options.db), error.what()));
    }
    stop::on_signals(options.about.name, pid_file_);
    if (!pid_file_.empty()) write_pid_file(pid_file_);
    const std::string line =
        fmt::format("{}: listening on {} (pid {})\n", options.about.name, local_address(listener), getpid());
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
}

Ready::~Ready() {
    if (getpid() != owner_) return;
    if (stop::requested()) logging::info("Handled signal: {}; every client is gone", stop::signal_name());
    if (!pid_file_.empty()) unlink(pid_file_.c_str());
}

int failed(const About& about, const std::exception& error) noexcept {
    fmt::print(stderr, "{}: {}\n", about.name, error.what());
    return 1;
}
