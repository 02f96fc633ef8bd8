#include "sockets/sockets.hpp"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/log.hpp"

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

/// socket(2) and bind(2). If one fails, the Fd is empty and errno says why.
Fd bind_to(const sockaddr* address, socklen_t size, Mode mode, bool beside_others = false) noexcept {
    const int type = SOCK_STREAM | SOCK_CLOEXEC | (mode == Mode::nonblocking ? SOCK_NONBLOCK : 0);
    Fd fd(socket(address->sa_family, type, 0));
    if (!fd) return fd;
    // Without this, the connections of a server that has just ended would keep its port for a minute (TIME_WAIT, tcp(7)).
    set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR);
    if (beside_others) set_flag(fd.get(), SOL_SOCKET, SO_REUSEPORT);
    if (bind(fd.get(), address, size) == 0) return fd;
    const int error = errno;
    fd.close();
    errno = error;
    return {};
}

[[noreturn]] void fail(const std::string& failed, int error) {
    const char* help = "";
    if (error == EADDRINUSE) help = " (choose another port with --port)";
    if (error == EACCES) help = " (ports below 1024 are root's; choose another with --port)";
    throw std::runtime_error(fmt::format("{}: {}{}", failed, std::strerror(error), help));
}

Fd bind_to(const std::string& host, const std::string& port, Mode mode, const std::string& failed) {
    addrinfo hints{};
    hints.ai_flags = AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failure = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    if (failure != 0) throw std::runtime_error(fmt::format("{}: {}", failed, gai_strerror(failure)));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
    // IPv4 first: a client that knows the name tries all its addresses, but one that knows 127.0.0.1 tries only that.
    for (const int family : {AF_INET, AF_INET6}) {
        for (const addrinfo* address = found; address; address = address->ai_next) {
            if (address->ai_family != family) continue;
            if (Fd fd = bind_to(address->ai_addr, address->ai_addrlen, mode)) return fd;
            // Success with another address of the same name would hide the conflict.
            if (errno == EADDRINUSE) fail(failed, errno);
        }
    }
    fail(failed, errno);
}

}  // namespace

Listener listen_on(const std::string& host, int port, Mode mode) { return std::move(listen_apart(host, port, mode, 1)[0]); }

std::vector<Listener> listen_apart(const std::string& host, int port, Mode mode, int number) {
    const std::string failed = "cannot listen on " + host_and_port(host, std::to_string(port));
    std::vector<Listener> listeners;
    const auto add = [&](Fd fd) {
        // The kernel limits the accept queue to net.core.somaxconn.
        if (!fd || listen(fd.get(), SOMAXCONN) != 0) fail(failed, errno);
        listeners.emplace_back(std::move(fd));
    };
    // The first socket binds without SO_REUSEPORT, which fails if a server listens already, and only then sets it. If all of
    // them set it from the start, they would silently join the sockets of another server of this user.
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

namespace {

std::atomic<int> clients{0};

/// Called when a client has gone; `left` is how many remain. When that is a quarter of the peak, freed memory goes back to
/// the system. The C library keeps it for later allocations, and it lies between pieces that are still in use. So we must
/// tell the library (malloc_trim(3)) to return each free page. That takes milliseconds.
void give_memory_back(int left) noexcept {
    static std::atomic<int> most{0};
    int before = most;
    while (before < left && !most.compare_exchange_weak(before, left)) {
    }
    if (before < 200 || left > before / 4 || !most.compare_exchange_strong(before, left)) return;
    malloc_trim(0);
}

}  // namespace

Client::Client(Fd accepted) noexcept : fd(std::move(accepted)), registration(fd.get()) {
    ++clients;
    // Without this, Nagle's algorithm holds a reply back until the client's delayed acknowledgement.
    set_flag(fd.get(), IPPROTO_TCP, TCP_NODELAY);
}

void Client::close() noexcept {
    if (!fd) return;
    registration.end();  // before another client can get the descriptor's number
    fd.close();
    give_memory_back(--clients);
}

int Client::count() noexcept { return clients; }

std::string peer_name(int fd) {
    if (!logging::verbose()) return {};
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";  // the client has gone already
    return numeric(address, size).host.data();
}

Accepted accepted(const Fd& client) {
    if (client) return client.get() < descriptor_limit ? Accepted::client : Accepted::shortage;
    const int error = errno;
    if (stop::leaving()) return Accepted::stopped;
    switch (error) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: return Accepted::shortage;
        // The listener was shut down, perhaps by the parent, whose signal to this worker is still on its way.
        case EINVAL: return Accepted::stopped;
        // accept(2) also reports network errors of the new connection. They end that client and no other.
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
        case ETIMEDOUT: return Accepted::nobody;
        default: throw std::system_error(error, std::generic_category(), "accept4");
    }
}

namespace {

/// Reads what has arrived and discards it. At most 16 reads, because no other client is served meanwhile. True if that was
/// everything.
bool discard_waiting(int fd) noexcept {
    std::array<char, 4096> sink;
    ssize_t size = 1;
    for (int times = 0; times < 16 && size > 0; ++times) size = recv(fd, sink.data(), sink.size(), MSG_DONTWAIT);
    return size <= 0;
}

}  // namespace

void refuse(const Fd& client) noexcept {
    constexpr std::string_view line = "error: server is full\n";
    send(client.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(client.get(), SHUT_WR);
    discard_waiting(client.get());  // closing with unread bytes would reset the connection and could lose the line
}

void refuse(const Fd& client, const char* why) noexcept {
    logging::trouble("A client is refused", why);
    refuse(client);
}

namespace {

void tell(Session& session, int fd, const char* bytes, ssize_t size) {
    if (size > 0)
        session.received({bytes, static_cast<std::size_t>(size)});
    else if (size == 0)
        stop::hung_up(fd) ? session.stop() : session.received_end();
    else if (errno != EAGAIN && errno != EINTR)
        session.abandon();
}

}  // namespace

bool came(Session& session, int fd, const char* bytes, ssize_t size) {
    const bool in_time = size >= 0 || errno != EAGAIN;
    tell(session, fd, bytes, size);
    if (!stop::hung_up(fd)) return in_time;
    // After shutdown(2) of the receiving side, the client's bytes still arrive.
    receive_waiting(session, fd);
    session.stop();
    return true;
}

void receive_waiting(Session& session, int fd) {
    int waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    ssize_t left = waiting;
    char room[1024];
    for (ssize_t size = 1; size > 0 && left >= 0; left -= size) {
        size = recv(fd, room, sizeof room, MSG_DONTWAIT);
        tell(session, fd, room, size);
    }
}

bool went(Session& session, int fd, ssize_t size) {
    if (size >= 0)
        session.sent(static_cast<std::size_t>(size));
    else if (errno == EAGAIN)
        return false;
    else if (errno != EINTR)
        session.abandon();
    if (session.answered()) stop::answered(fd);
    if (session.said_all() && stop::parting(fd)) shutdown(fd, SHUT_WR);
    return true;
}

void offer(Session& session, int fd) {
    const std::string_view output = session.output();
    if (!output.empty()) went(session, fd, send(fd, output.data(), output.size(), MSG_DONTWAIT));
}

bool delivered(int fd) noexcept {
    const bool all_read = discard_waiting(fd);
    tcp_info info{};
    socklen_t size = sizeof info;
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    // In any other state the client has everything, can send nothing more that would reset the connection, or has reset it
    // (then SIOCOUTQ still counts what was lost). The kernel delivers the rest, unless close(2) finds unread bytes.
    if (info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_FIN_WAIT1 && all_read) return true;
    int unacknowledged = 0;
    return ioctl(fd, SIOCOUTQ, &unacknowledged) != 0 || unacknowledged == 0;
}
