#include "sockets.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <memory>
#include <new>
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

/// socket(2) and bind(2); an error is left in errno.
Fd bind_to(const sockaddr* address, socklen_t size, Mode mode, bool beside_others = false) noexcept {
    const int type = SOCK_STREAM | SOCK_CLOEXEC | (mode == Mode::nonblocking ? SOCK_NONBLOCK : 0);
    Fd fd(socket(address->sa_family, type, 0));
    if (!fd) return fd;
    // Without it, connections of a server that has just ended would keep its port for a minute (TIME_WAIT, tcp(7)).
    set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR);
    if (beside_others) set_flag(fd.get(), SOL_SOCKET, SO_REUSEPORT);
    if (bind(fd.get(), address, size) == 0) return fd;
    const int error = errno;
    fd.close();
    errno = error;
    return {};
}

Fd bind_to(const std::string& host, const std::string& port, Mode mode, const std::string& failed) {
    addrinfo hints{};
    hints.ai_flags = AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failure = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    if (failure != 0) throw std::runtime_error(fmt::format("{}: {}", failed, gai_strerror(failure)));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
    for (const addrinfo* address = found; address; address = address->ai_next) {
        if (Fd fd = bind_to(address->ai_addr, address->ai_addrlen, mode)) return fd;
        if (errno == EADDRINUSE) break;  // a second address of the same name would hide the conflict
    }
    throw std::system_error(errno, std::generic_category(), failed);
}

}  // namespace

void Listener::in_worker() {
    both_ = Fd(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN, .data = {}};
    for (const int fd : {socket_.get(), stop::bell()})
        if (!both_ || epoll_ctl(both_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
            throw std::system_error(errno, std::generic_category(), "cannot watch the listener");
}

Listener listen_on(const std::string& host, int port, Mode mode) { return std::move(listen_apart(host, port, mode, 1)[0]); }

std::vector<Listener> listen_apart(const std::string& host, int port, Mode mode, int number) {
    const std::string failed = "cannot listen on " + host_and_port(host, std::to_string(port));
    std::vector<Listener> listeners;
    const auto add = [&](Fd fd) {
        // The kernel cuts the queue to net.core.somaxconn.
        if (!fd || listen(fd.get(), SOMAXCONN) != 0) throw std::system_error(errno, std::generic_category(), failed);
        listeners.emplace_back(std::move(fd));
    };
    // The first one takes the port for itself, which fails where a server listens already, and only then shares it. Sockets
    // that did so from the start would join those of another server of this user without a word.
    add(bind_to(host, std::to_string(port), mode, failed));
    const int first = listeners[0].get();
    if (number > 1) set_flag(first, SOL_SOCKET, SO_REUSEPORT);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    getsockname(first, reinterpret_cast<sockaddr*>(&address), &size);
    for (int i = 1; i < number; ++i) add(bind_to(reinterpret_cast<const sockaddr*>(&address), size, mode, true));
    return listeners;
}

std::string local_address(const Listener& listener) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
    const Name name = numeric(address, size);
    return host_and_port(name.host.data(), name.port.data());
}

Arrival accept_client(const Listener& listener, Mode mode) try {
    if (stop::leaving()) return {Accepted::stopped, {}, {}};
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    const int flags = SOCK_CLOEXEC | (mode == Mode::nonblocking ? SOCK_NONBLOCK : 0);
    Fd fd(accept4(listener.get(), reinterpret_cast<sockaddr*>(&address), &size, flags));
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
        // What shutdown(2) makes of a listening socket, the parent's perhaps, whose word to this worker is on its way.
        case EINVAL: return {Accepted::stopped, {}, {}};
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
} catch (const std::bad_alloc&) {
    return {Accepted::shortage, {}, {}};
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

void refuse(Fd client, const char* why) noexcept {
    logging::trouble("A client is refused", why);
    refuse(std::move(client));
}

void refuse(Client client, const char* why) noexcept {
    client.served.end();  // before the number of the descriptor can be another client's
    refuse(std::move(client.fd), why);
}

namespace {

/// At our end: all that has come by now, and nothing that comes later. shutdown(2) of the receiving side does not keep a
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
    if (stop::hung_up(fd)) {
        receive_rest(fd, session);
        return true;
    }
    const std::span<char> buffer = session.buffer();
    const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
    if (size > 0)
        session.received({buffer.data(), static_cast<std::size_t>(size)});
    else if (size == 0)
        stop::hung_up(fd) ? session.stop() : session.received_end();
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
    if (session.answered()) stop::answered(fd);
    if (session.said_all()) shutdown(fd, SHUT_WR);
    return true;
}
