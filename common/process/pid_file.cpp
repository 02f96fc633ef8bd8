#include "process/pid_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>

#include "base/fd.hpp"
#include "base/text.hpp"

namespace pid_file {

namespace {

// What remove() needs, perhaps in a signal handler. A forked child has copies of these, and must leave the file alone.
std::string name;
Fd file;  // stays open, because closing any descriptor of the file would release the lock
pid_t owner = 0;
std::atomic<bool> taken{false};

/// Whether nothing is lost if the file is overwritten.
bool is_a_pid_file(int fd) noexcept {
    struct stat opened {};
    std::array<char, 32> text{};
    if (fstat(fd, &opened) != 0 || !S_ISREG(opened.st_mode)) return false;
    const ssize_t size = pread(fd, text.data(), text.size(), 0);
    return size == opened.st_size &&
           std::all_of(text.begin(), text.begin() + size, [](char c) { return c == '\n' || ('0' <= c && c <= '9'); });
}

/// Whether the path still leads to this file.
bool has_its_name(int fd) noexcept {
    struct stat opened {};
    struct stat named {};
    return fstat(fd, &opened) == 0 && lstat(name.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

/// False, with errno, if it can't be locked.
bool lock(int fd) noexcept {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    return fcntl(fd, F_SETLK, &whole) == 0;
}

void quit(int signal) {
    remove();
    std::signal(signal, SIG_DFL);
    raise(signal);  // arrives when this handler has returned
}

}  // namespace

void take(const std::string& path) {
    const std::string failed = "cannot write the pid file " + printable(path);
    const std::string pid = fmt::format("{}\n", getpid());
    name = path;
    owner = getpid();
    if (std::signal(SIGQUIT, quit) == SIG_IGN) std::signal(SIGQUIT, SIG_IGN);
    do {
        file = Fd(open(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644));
        if (!file) throw std::system_error(errno, std::generic_category(), failed);
        if (!is_a_pid_file(file.get())) throw std::runtime_error(failed + ": it is not a pid file, and stays as it is");
        if (!lock(file.get())) {
            if (errno != EAGAIN && errno != EACCES) throw std::system_error(errno, std::generic_category(), failed);
            throw std::runtime_error(failed + ": it belongs to a server that is running");
        }
    } while (!has_its_name(file.get()));  // if not, its server has just ended and removed it
    taken = true;
    if (ftruncate(file.get(), 0) != 0 || write(file.get(), pid.data(), pid.size()) != static_cast<ssize_t>(pid.size())) {
        const int error = errno;
        remove();
        throw std::system_error(error, std::generic_category(), failed);
    }
}

void remove() noexcept {
    if (!taken.exchange(false) || getpid() != owner) return;
    if (has_its_name(file.get())) unlink(name.c_str());
}

}  // namespace pid_file
