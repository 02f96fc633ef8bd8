/// TCP sockets: thin wrappers over the POSIX calls, and what the calls' results mean for a conversation.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "protocol/session.hpp"
#include "sockets/stop.hpp"

/// Whether a call on the socket waits until it can go on.
enum class Mode : std::uint8_t { blocking, nonblocking };

/// A listening socket. The kernel makes the connections and keeps them in the socket's accept queue until the server accepts
/// them. A stop shuts the socket down, which refuses the clients in the queue.
class Listener {
   public:
    explicit Listener(Fd socket)
        : socket_(std::move(socket)), registration_(socket_.get(), stop::Registration::As::listener) {}

    [[nodiscard]] int get() const noexcept { return socket_.get(); }

    /// For a child that does not accept: its copy must not keep the port in use when the parent has gone.
    void close() noexcept {
        registration_.end();
        socket_.close();
    }

    /// The descriptor to watch with poll(2) or epoll(7). It is readable when a client waits in the queue, and when no more
    /// clients are to be accepted. It is the socket itself or, in a worker (master.hpp), what watch() was given instead.
    [[nodiscard]] int readiness() const noexcept { return watched_ ? watched_.get() : socket_.get(); }
    void watch(Fd instead) noexcept { watched_ = std::move(instead); }

   private:
    Fd socket_;
    stop::Registration registration_;
    Fd watched_;
};

/// Listens on the host (a name or an address; of a name that has both, IPv4 before IPv6) and port (0: any free one).
/// Throws std::runtime_error, "cannot listen on HOST:PORT: …", with what helps if the port is in use or root's.
/// getaddrinfo(3), socket(2), bind(2), listen(2).
Listener listen_on(const std::string& host, int port, Mode mode);
/// `number` sockets on one port, each with its own accept queue. The kernel spreads the clients over them (SO_REUSEPORT,
/// socket(7)). Fails if any server listens on the port already. Throws as above.
std::vector<Listener> listen_apart(const std::string& host, int port, Mode mode, int number);

/// A listener's address, such as 127.0.0.1:9999 or [::1]:9999. getsockname(2).
std::string local_address(const Listener& listener);

/// The connection of a client that is being served.
struct Client {
    /// Sets TCP_NODELAY, so that each reply leaves at once (tcp(7)).
    explicit Client(Fd accepted) noexcept;
    Client(Client&&) = default;
    Client& operator=(Client&&) = delete;
    ~Client() { close(); }

    void close() noexcept;
    /// How many clients this process is serving. Any thread.
    static int count() noexcept;

    Fd fd;
    stop::Registration registration;
};

/// The client's address, without the port, for the log; empty unless --verbose. getpeername(2).
std::string peer_name(int fd);

/// What the result of accept4(2) means.
enum class Accepted : std::uint8_t {
    client,    ///< a new client
    nobody,    ///< none now: a non-blocking listener's queue is empty, the client gave up meanwhile, or a signal came
    shortage,  ///< no descriptor or no memory is left: clients must wait, and trying again at once would spin
    stopped    ///< no more clients are to be accepted
};

/// How long to wait, when descriptors or memory are short, before the next try of accept4(2).
inline constexpr std::chrono::milliseconds shortage_pause{100};

/// Interprets what accept4(2) has just returned; errno must still be that of the call. A process that is stopping or retired
/// (stop::leaving()) must not call accept4(2), because the next client belongs to another worker. It passes an empty Fd
/// instead. Throws std::system_error for an error that can only be a bug.
Accepted accepted(const Fd& client);

/// Sends `error: server is full` to a client that is about to be closed. Does not wait.
void refuse(const Fd& client) noexcept;
/// The same when memory, processes or threads are short. The log tells why.
void refuse(const Fd& client, const char* why) noexcept;

/// Tells the session what recv(2) has just returned: `size` of these bytes, the client's end (0), or an error (-1, errno).
/// False if nothing came in time: a non-blocking socket would block (EAGAIN), or the socket's time-out has passed. If
/// stop::hung_up(), it also receives what still waits, calls Session::stop() and returns true. Throws std::bad_alloc.
bool came(Session& session, int fd, const char* bytes, ssize_t size);
/// Tells the session what send(2) has just returned: how many bytes of its output have gone, or an error (-1, errno). Shuts
/// the sending side down after the last reply. False if nothing went in time.
bool went(Session& session, int fd, ssize_t size);

/// Receives what has arrived by now, and tells the session. Takes at most 1 KiB of what comes later, so that a client that
/// keeps sending does not hold up the others. Does not wait. Throws std::bad_alloc.
void receive_waiting(Session& session, int fd);
/// To be called before work that may take time: sends the same client's earlier replies, so that they do not wait for that
/// work. Does not wait: what the kernel does not take at once leaves after the work.
void offer(Session& session, int fd);

/// Whether close(2) can lose nothing more: everything sent has reached the client's kernel or never will, or the client
/// sends no more. Until then, close(2) is too early: the client's next byte would reset the connection, and the kernel would
/// drop what it still has to send (TCPAbortOnData in netstat(8)). This discards what has arrived meanwhile, because some
/// clients read only after they have sent everything. No event reports the delivery. tcp(7): TCP_INFO, SIOCOUTQ.
bool delivered(int fd) noexcept;
