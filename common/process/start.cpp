#include "process/start.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iterator>
#include <stdexcept>

#include "base/log.hpp"
#include "base/text.hpp"
#include "process/pid_file.hpp"
#include "sockets/stop.hpp"
#include "tasks/tasks.hpp"

namespace {

/// Each client takes a descriptor. Shells often allow 1,024, a number from the days of select(2). The real limit is the hard
/// one.
void raise_descriptor_limit() noexcept {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, descriptor_limit);
    setrlimit(RLIMIT_NOFILE, &limit);
}

void begin_log(const Options& options) noexcept {
    logging::begin();
    if (options.quiet) logging::set_level(logging::Level::quiet);
    if (options.verbose) logging::set_level(logging::Level::verbose);
}

/// A write can cause both signals, and either would end the server: SIGPIPE if the reader has gone, SIGXFSZ past the
/// permitted size of a file (RLIMIT_FSIZE). If they are ignored, the call returns an error instead.
void ignore_failed_writes() noexcept {
    for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
}

void hold(std::optional<DatabaseFile>& database, const std::string& path) try {
    database.emplace(path);
} catch (const TasksError& error) {
    throw std::runtime_error(fmt::format("cannot open the database {}: {}", printable(path), error.what()));
}

void say_ready(const std::string& program, const Listener& listener) {
    const std::string line = fmt::format("{}: listening on {} (pid {})\n", program, local_address(listener), getpid());
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
}

}  // namespace

Ready::Ready(const Service& service, const Listener& listener) : owner_(getpid()) {
    const Options& options = service.options;
    begin_log(options);
    raise_descriptor_limit();
    ignore_failed_writes();
    hold(database_, options.db);
    stop::on_signals(options.about.name, pid_file::remove);
    if (!options.pid_file.empty()) pid_file::take(options.pid_file);
    say_ready(options.about.name, listener);
}

Ready::~Ready() {
    if (getpid() != owner_) return;
    if (stop::requested()) logging::info("Handled signal: {}; every client is gone", stop::signal_name());
    pid_file::remove();
}

int failed(const About& about, const std::exception& error) noexcept {
    fmt::memory_buffer line;  // a short line needs no heap memory
    fmt::format_to(std::back_inserter(line), "{}: {}\n", about.name, logging::reason(error));
    logging::put({line.data(), line.size()});
    return 1;
}
