/// A file descriptor with exactly one owner.
#pragma once

#include <unistd.h>

#include <utility>

/// Owns a descriptor and closes it when it goes; can be moved, not copied. Not safe to share between threads without
/// a lock (nor need it be: a descriptor has one owner).
class Fd {
   public:
    Fd() = default;
    explicit Fd(int fd) noexcept : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { close(); }

    /// The number that system calls want; -1 where nothing is owned.
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    /// Closes it now. An error is not reported: close(2) frees the number even then, and closing again could hit a
    /// descriptor that another thread has opened meanwhile.
    void close() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

   private:
    int fd_ = -1;
};
