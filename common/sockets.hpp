/// TCP sockets: thin wrappers over the POSIX calls, with the answers that a conversation needs.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "fd.hpp"
#include "session.hpp"
#include "stop.hpp"

/// Whether a call on the socket waits until it can go on.
enum class Mode : std::uint8_t { blocking, nonblocking };

/// A socket that listens on the host (a name or an address, IPv4 or IPv6) and port (0: any free one). Throws
/// std::system_error or std::runtime_error, "cannot listen on HOST:PORT: …". socket(2), bind(2), listen(2).
Fd listen_on(const std::string& host, int port, Mode mode);

/// A socket's own address, as in 127.0.0.1:9999 or [::1]:9999. getsockname(2).
std::string local_address(int fd);

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
    stopped    ///< the listener was shut down
};

struct Arrival {
    Accepted outcome;
    Fd fd;
    std::string peer;
};

/// Takes one client off the listener's queue: blocking or not as the listener is; the client's socket is as `mode` says.
/// Throws std::system_error for what can only be a bug. accept4(2).
Arrival accept_client(int listener, Mode mode);

/// Tells a client that there is no place, and closes without waiting for it: `error: server is full`.
void refuse(Fd client) noexcept;

/// Receives once and gives the session what came: bytes, the client's end, or the loss of the connection. False where
/// nothing came in time: a non-blocking socket would block, or the socket's time-out has passed. recv(2).
bool recv_into(int fd, Session& session);

/// Sends once of the session's output, and shuts the sending side down behind its last word. False as above. send(2).
bool send_from(int fd, Session& session);
