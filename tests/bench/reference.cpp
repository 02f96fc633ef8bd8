// The fastest server with the same system calls as ours: it understands nothing, and answers a constant.
//
//   reference lines [PORT]     `fib: 1` for each newline
//   reference http [PORT]      the same response for each blank line
//
// One thread, level-triggered epoll, one recv(2) and one send(2) for whatever has come. A client that does not take its
// replies is dropped. Several references share a port if they are given one (SO_REUSEPORT, socket(7)).
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "base/fd.hpp"

namespace {

constexpr std::string_view line_reply = "fib: 1\n";
constexpr std::string_view http_reply =
    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Served-By: the_reference pid=12345 thread=12345\r\n"
    "Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"n\":1,\"fib\":1}";

[[noreturn]] void fail(const char* call) { throw std::system_error(errno, std::generic_category(), call); }

int must(int result, const char* call) {
    if (result < 0) fail(call);
    return result;
}

class Reference {
   public:
    Reference(bool http, int port)
        : end_(http ? "\r\n\r\n" : "\n"),
          reply_(http ? http_reply : line_reply),
          listener_(must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket")),
          epoll_(must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        const int on = 1;
        setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (port != 0) setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        sockaddr_in address{.sin_family = AF_INET,
                            .sin_port = htons(static_cast<in_port_t>(port)),
                            .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                            .sin_zero = {}};
        socklen_t size = sizeof address;
        must(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
        must(listen(listener_.get(), SOMAXCONN), "listen");
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
        watch(listener_.get());
        fmt::print("listening on 127.0.0.1:{}\n", ntohs(address.sin_port));
        std::fflush(stdout);
    }

    [[noreturn]] void run() {
        std::array<epoll_event, 256> events;
        for (;;) {
            const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
            for (int i = 0; i < ready; ++i) {
                const int fd = events[static_cast<std::size_t>(i)].data.fd;
                if (fd == listener_.get())
                    accept_all();
                else if (!answer(fd))
                    clients_.erase(fd);
            }
        }
    }

   private:
    struct Client {
        Fd fd;
        std::string seam;  // the last bytes, which may begin an end
    };

    void watch(int fd) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
        must(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }

    void accept_all() {
        for (int fd; (fd = accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            const int on = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            clients_.insert_or_assign(fd, Client{Fd(fd), {}});
            watch(fd);
        }
    }

    bool answer(int fd) {
        std::string& seam = clients_.find(fd)->second.seam;
        std::copy(seam.begin(), seam.end(), buffer_.begin());
        const ssize_t got = recv(fd, buffer_.data() + seam.size(), buffer_.size() - seam.size(), 0);
        if (got <= 0) return false;
        std::string_view bytes(buffer_.data(), seam.size() + static_cast<std::size_t>(got));
        std::size_t replies = 0;
        for (std::size_t end; (end = bytes.find(end_)) != bytes.npos; ++replies) bytes.remove_prefix(end + end_.size());
        seam = bytes.substr(bytes.size() - std::min(bytes.size(), end_.size() - 1));
        if (replies == 0) return true;
        while (replies_.size() < replies * reply_.size()) replies_ += reply_;
        const std::size_t size = replies * reply_.size();
        return send(fd, replies_.data(), size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
    }

    std::string_view end_;
    std::string_view reply_;
    std::string replies_;  // enough for the most that were sent at once
    Fd listener_;
    Fd epoll_;
    std::unordered_map<int, Client> clients_;
    std::array<char, 65'536> buffer_;
};

}  // namespace

int main(int argc, char** argv) {
    const std::string_view what = argc > 1 ? argv[1] : "";
    if ((what != "lines" && what != "http") || argc > 3) {
        fmt::print(stderr, "usage: reference lines|http [PORT]\n");
        return 2;
    }
    try {
        Reference(what == "http", argc > 2 ? std::atoi(argv[2]) : 0).run();
    } catch (const std::system_error& error) {
        fmt::print(stderr, "reference: {}\n", error.what());
        return 1;
    }
}
