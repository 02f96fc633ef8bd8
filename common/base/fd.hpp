/// A file descriptor with exactly one owner.
#pragma once

#include <unistd.h>

#include <utility>

/// Owns a descriptor; the destructor closes it. Can be moved, not copied. For one thread at a time.
class Fd {
   public:
    Fd() = default;
    explicit Fd(int fd) noexcept : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    /// Swaps: what this owned stays open until `other` is destroyed.
    Fd& operator=(Fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { close(); }

    /// The number for system calls; -1 if nothing is owned.
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    /// Closes it now. Ignores errors: close(2) frees the number even if it fails, and closing again could hit a
    /// descriptor that another thread has opened meanwhile.
    void close() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

   private:
    int fd_ = -1;
};
