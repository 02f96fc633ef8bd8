// The log on a terminal that another process is writing to.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "base/fd.hpp"
#include "base/log.hpp"

namespace {

struct Terminal {
    Fd ours;
    Fd its;  // what the programs on it write to
};

Terminal open_terminal() {
    int ours = -1;
    int its = -1;
    EXPECT_EQ(openpty(&ours, &its, nullptr, nullptr, nullptr), 0);
    return {Fd(ours), Fd(its)};
}

bool is_ready(const Fd& fd, short events, int within_ms) {
    pollfd wanted{.fd = fd.get(), .events = events, .revents = 0};
    return poll(&wanted, 1, within_ms) == 1;
}

template <class What>
pid_t in_a_process(What what) {
    const pid_t pid = fork();
    if (pid == 0) _exit(what());
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");  // kill(-1, …) would end everything
    return pid;
}

bool sleeps_or_has_ended(pid_t pid) {
    std::ifstream stat(fmt::format("/proc/{}/stat", pid));
    const std::string text((std::istreambuf_iterator<char>(stat)), {});
    const char state = text[text.rfind(')') + 2];
    return state == 'S' || state == 'Z';
}

}  // namespace

// While a process writes to a terminal, the kernel refuses what another one writes with O_NONBLOCK.
TEST(Log, ALineWaitsUntilATerminalHasTakenWhatAnotherProcessWrites) {
    bool taken = false;
    for (int i = 0; i < 20 && !taken; ++i) {  // on a busy machine the line's tenth of a second may pass before we read
        const Terminal terminal = open_terminal();
        const pid_t other = in_a_process([&] {
            const std::string much(200'000, 'x');  // more than a terminal keeps, so this takes until we read
            return write(terminal.its.get(), much.data(), much.size()) < 0;
        });
        while (is_ready(terminal.its, POLLOUT, 0)) {
        }
        const pid_t logger = in_a_process([&] {
            dup2(terminal.its.get(), STDERR_FILENO);
            logging::begin();
            return !logging::put("a line\n");
        });
        while (!sleeps_or_has_ended(logger)) {
        }
        int status = -1;
        for (std::string shown(65536, '\0'); waitpid(logger, &status, WNOHANG) == 0;)
            if (is_ready(terminal.ours, POLLIN, 1) && read(terminal.ours.get(), shown.data(), shown.size()) < 0) break;
        taken = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        kill(other, SIGKILL);
        waitpid(other, nullptr, 0);
    }
    EXPECT_TRUE(taken);
}
