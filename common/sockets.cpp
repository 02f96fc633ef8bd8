#include "sockets.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>

#include "limits.hpp"
#include "log.hpp"

namespace {

std::string host_and_port(const std::string& host, std::string_view port) {
    return host.find(':') == host.npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

struct Name {
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
};

Name numeric(const sockaddr_storage& address, socklen_t size) {
    Name name;
    getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, name.host.data(), name.host.size(), name.port.data(),
                name.port.size(), NI_NUMERICHOST | NI_NUMERICSERV);
    return name;
}

void set_flag(int fd, int level, int option) noexcept {
    const int on = 1;
    setsockopt(fd, level, option, &on, sizeof on);
}

}  // namespace

Fd listen_on(const std::string& host, int port, Mode mode) {
    const std::string where = "cannot listen on " + host_and_port(host, std::to_string(port));
    addrinfo hints{};
    hints.ai_flags = AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failure = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (failure != 0) throw std::runtime_error(fmt::format("{}: {}", where, gai_strerror(failure)));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
    const int type = SOCK_STREAM | SOCK_CLOEXEC | (mode == Mode::nonblocking ? SOCK_NONBLOCK : 0);
    int error = 0;
    for (const addrinfo* address = found; address; address = address->ai_next) {
        Fd fd(socket(address->ai_family, type, 0));
        // Without it, connections of a server that has just ended would keep its port for a minute (TIME_WAIT, tcp(7)).
        if (fd) set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR);
        // The kernel cuts the queue to net.core.somaxconn.
        if (fd && bind(fd.get(), address->ai_addr, address->ai_addrlen) == 0 && listen(fd.get(), SOMAXCONN) == 0) return fd;
        error = errno;
        if (error == EADDRINUSE) break;  // a second address of the same name would hide the conflict
    }
    throw std::system_error(error, std::generic_category(), where);
}

std::string local_address(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    const Name name = numeric(address, size);
    return host_and_port(name.host.data(), name.port.data());
}

Arrival accept_client(int listener, Mode mode) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    const int flags = SOCK_CLOEXEC | (mode == Mode::nonblocking ? SOCK_NONBLOCK : 0);
    Fd fd(accept4(listener, reinterpret_cast<sockaddr*>(&address), &size, flags));
    if (fd) {
        if (fd.get() >= descriptor_limit) return {Accepted::shortage, {}, {}};
        // Each reply leaves at once: else Nagle's algorithm holds it until the client's delayed acknowledgement (tcp(7)).
        set_flag(fd.get(), IPPROTO_TCP, TCP_NODELAY);
        return {Accepted::client, std::move(fd), logging::verbose() ? numeric(address, size).host.data() : std::string()};
    }
    switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: return {Accepted::shortage, {}, {}};
        case EINVAL:  // what shutdown(2) makes of a listening socket
            if (stop::requested()) return {Accepted::stopped, {}, {}};
            break;
        // The client's own network error arrives here (accept(2)); it ends that client and nobody else.
        case EAGAIN:
        case EINTR:
        case ECONNABORTED:
        case EPERM:
        case EPROTO:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case ETIMEDOUT: return {Accepted::nobody, {}, {}};
        default: break;
    }
    throw std::system_error(errno, std::generic_category(), "accept");
}

void refuse(Fd client) noexcept {
    constexpr std::string_view line = "error: server is full\n";
    send(client.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(client.get(), SHUT_WR);
    // What has come already is read, since closing over it would reset the connection and could lose the line; a bounded
    // number of times, for nobody else is served meanwhile.
    std::array<char, 4096> sink;
    for (int times = 0; times < 16 && recv(client.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0; ++times) {
    }
}

namespace {

/// While stopping: all that has come by now, and nothing that comes later. shutdown(2) of the receiving side does not keep a
/// client's bytes from arriving, so one that goes on sending would hold up the stop.
void receive_rest(int fd, Session& session) {
    int waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    std::string rest(static_cast<std::size_t>(waiting), '\0');
    const ssize_t size = rest.empty() ? 0 : recv(fd, rest.data(), rest.size(), MSG_DONTWAIT);
    if (size > 0) session.received(std::string_view(rest).substr(0, static_cast<std::size_t>(size)));
    session.stop();
}

}  // namespace

bool recv_into(int fd, Session& session) {
    // One page a thread: the one buffer of a loop, and no more than it must be where each client has a thread. It outlives
    // the call, for the session reads the bytes in place.
    thread_local std::array<char, 4096> buffer;
    if (stop::requested()) {
        receive_rest(fd, session);
        return true;
    }
    const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
    if (size > 0)
        session.received({buffer.data(), static_cast<std::size_t>(size)});
    else if (size == 0)
        stop::requested() ? session.stop() : session.received_end();
    else if (errno == EAGAIN)
        return false;
    else if (errno != EINTR)
        session.abandon();
    return true;
}

bool send_from(int fd, Session& session) {
    const std::string_view output = session.output();
    const ssize_t size = send(fd, output.data(), output.size(), MSG_NOSIGNAL);
    if (size >= 0)
        session.sent(static_cast<std::size_t>(size));
    else if (errno == EAGAIN)
        return false;
    else if (errno != EINTR)
        session.abandon();
    if (session.said_all()) shutdown(fd, SHUT_WR);
    return true;
}
