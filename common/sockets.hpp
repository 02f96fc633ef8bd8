/// TCP sockets: thin wrappers over the POSIX calls, with the answers that a conversation needs.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fd.hpp"
#include "session.hpp"
#include "stop.hpp"

/// Whether a call on the socket waits until it can go on.
enum class Mode : std::uint8_t { blocking, nonblocking };

/// A socket that listens: the kernel makes connections with clients and queues them on it until they are accepted. A stop
/// shuts it down, and refuses them.
class Listener {
   public:
    explicit Listener(Fd socket) : socket_(std::move(socket)), served_(socket_.get(), stop::Served::As::listener) {}

    [[nodiscard]] int get() const noexcept { return socket_.get(); }

    /// In a child that does not accept: this copy must not keep the port in use when the parent has gone.
    void close() noexcept {
        served_.end();
        socket_.close();
    }

    /// In a worker, after stop::in_worker(): the listener is shared with the master and with whoever comes after this
    /// worker, so it is not shut down when this worker goes. Throws std::system_error.
    void in_worker();
    /// What poll(2) and epoll(7) should watch: can be read when there is a client to be accepted, and when none is to be
    /// accepted any more. The socket itself; in a worker an epoll instance that watches it and the worker's bell.
    [[nodiscard]] int readiness() const noexcept { return both_ ? both_.get() : socket_.get(); }

   private:
    Fd socket_;
    stop::Served served_;
    Fd both_;
};

/// Listens on the host (a name or an address, IPv4 or IPv6) and port (0: any free one). Throws std::system_error or
/// std::runtime_error, "cannot listen on HOST:PORT: …". socket(2), bind(2), listen(2).
Listener listen_on(const std::string& host, int port, Mode mode);
/// So many sockets on one port, each with a queue of its own: the kernel deals the clients out among them (SO_REUSEPORT,
/// socket(7)). The port must be free, as above; other servers can't join in. Throws as above.
std::vector<Listener> listen_apart(const std::string& host, int port, Mode mode, int number);

/// A listener's address, as in 127.0.0.1:9999 or [::1]:9999. getsockname(2).
std::string local_address(const Listener& listener);

/// A client's connection.
struct Client {
    Fd fd;
    std::string peer;  ///< its address without the port, for the log; empty unless --verbose
    stop::Served served;

    Client(Fd accepted, std::string address) : fd(std::move(accepted)), peer(std::move(address)), served(fd.get()) {}
    Client(Client&&) = default;
    Client& operator=(Client&&) = delete;
    ~Client() = default;
};

/// What accept(2) came to.
enum class Accepted : std::uint8_t {
    client,    ///< one more
    nobody,    ///< none now: a non-blocking listener has none waiting, one gave up meanwhile, or a signal came
    shortage,  ///< no descriptor or no memory is left: clients must wait. Asking again at once would spin.
    stopped    ///< none is to be accepted any more
};

struct Arrival {
    Accepted outcome;
    Fd fd;
    std::string peer;
};

/// Takes one client off the listener's queue: blocking or not as the listener is; the client's socket is as `mode` says.
/// Throws std::system_error for what can only be a bug. accept4(2).
Arrival accept_client(const Listener& listener, Mode mode);

/// Tells a client that there is no place, and closes without waiting for it: `error: server is full`.
void refuse(Fd client) noexcept;
/// The same where there is no place for want of memory, processes or threads, which the log then tells. (Nobody is told
/// where the descriptor has gone already, with the half of what was to be made for its client.)
void refuse(Fd client, const char* why) noexcept;
void refuse(Client client, const char* why) noexcept;

/// Receives once and gives the session what came: bytes, the client's end, or the loss of the connection. False where
/// nothing came in time: a non-blocking socket would block, or the socket's time-out has passed. recv(2).
bool recv_into(int fd, Session& session);

/// Sends once of the session's output, and shuts the sending side down behind its last word. False as above. send(2).
bool send_from(int fd, Session& session);
