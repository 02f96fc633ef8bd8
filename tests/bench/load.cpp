// A load generator. Each of its connections asks again as soon as it has its reply, and every reply is checked.
// Ends with one line of JSON: how many requests were answered in how many seconds and, if asked, how long they took.
// "in_all" also counts those before and after: of the whole run, or between its two pauses.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/fd.hpp"

namespace {

using Clock = std::chrono::steady_clock;

struct Plan {
    int port = 0;
    std::size_t connections = 1;
    std::size_t depth = 1;  // requests sent at once
    std::size_t idle = 0;   // connections that ask once, and then stay idle
    int ms = 400;
    std::vector<std::string> requests;  // in turn
    std::vector<std::string> replies;   // to each request: the line, or the response's body
    bool http = false;
    bool close = false;  // a connection for each request
    bool latency = false;
    bool may_starve = false;  // no reply at all is a result as well
    bool pauses = false;
};

[[noreturn]] void fail(const char* call) { throw std::system_error(errno, std::generic_category(), call); }

[[noreturn]] void wrong(std::string_view came) {
    throw std::runtime_error(fmt::format("this is not the reply: {}", came.substr(0, 1000)));
}

// --- replies -----------------------------------------------------------------------------------------------------------

/// The size of the first response in these bytes; 0 if it is not complete. Throws if it is not the right one.
std::size_t response_size(std::string_view bytes, std::string_view reply) {
    const auto end = bytes.find("\r\n\r\n");
    if (end == bytes.npos) return 0;
    const std::string_view head = bytes.substr(0, end + 2);
    if (!head.starts_with("HTTP/1.1 200 ")) wrong(bytes);
    constexpr std::string_view name = "ontent-Length: ";  // some servers write a small c
    const auto field = head.find(name);
    if (field == head.npos) wrong(bytes);
    std::size_t length = 0;
    std::from_chars(head.data() + field + name.size(), head.data() + head.size(), length);
    const std::string_view body = bytes.substr(end + 4);
    if (body.size() < length) return 0;
    if (length != reply.size() || !body.starts_with(reply)) wrong(bytes);
    return end + 4 + length;
}

/// The same for a line, including its LF.
std::size_t line_size(std::string_view bytes, std::string_view reply) {
    const auto end = bytes.find('\n');
    if (end == bytes.npos) return 0;
    if (bytes.substr(0, end) != reply) wrong(bytes);
    return end + 1;
}

// --- connections ---------------------------------------------------------------------------------------------------------

class Load {
   public:
    explicit Load(Plan plan)
        : plan_(std::move(plan)), epoll_(epoll_create1(EPOLL_CLOEXEC)), connections_(plan_.connections) {
        const std::size_t kinds = plan_.requests.size();
        for (std::size_t first = 0; first < kinds; ++first) {
            std::string& batch = batches_.emplace_back();
            for (std::size_t i = 0; i < plan_.depth; ++i) batch += plan_.requests[(first + i) % kinds];
        }
        for (std::size_t i = 0; i < plan_.idle; ++i) {
            idle_.push_back(connect());
            ask(idle_.back());
            while (idle_.back().awaited > 0) receive(idle_.back(), 0);
        }
        for (Connection& connection : connections_) {
            connection = connect();
            watch(connection);
        }
    }

    /// Runs a first round, in which every connection is answered once, and then the load for as long as planned. Without
    /// the first round, some connections might still wait to be accepted, and the others would share the server alone.
    void run() {
        for (Connection& connection : connections_) ask(connection);
        wait_for_all();
        if (plan_.pauses) pause("warm\n");
        const std::size_t before = answered_;
        const auto start = Clock::now();
        const auto until = start + std::chrono::milliseconds(plan_.ms);
        for (Connection& connection : connections_)
            if (connection.awaited == 0) ask_again(connection);
        go_on([&] { return Clock::now() >= until && answered_ > before; },
              [&](Connection& connection) {
                  if (plan_.latency) times_.push_back(Clock::now() - connection.asked);
                  ask_again(connection);
              });
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        const std::size_t in_time = answered_ - before;
        if (plan_.pauses) wait_for_all();
        fmt::print(R"({{"requests": {}, "in_all": {}, "seconds": {:.6f})", in_time,
                   plan_.pauses ? answered_ - before : answered_, seconds);
        if (plan_.latency && !times_.empty()) {
            std::sort(times_.begin(), times_.end());
            const auto us = [&](std::size_t percent) {
                return std::chrono::duration<double, std::micro>(times_[(times_.size() - 1) * percent / 100]).count();
            };
            fmt::print(R"(, "p50": {:.1f}, "p99": {:.1f}, "worst": {:.1f})", us(50), us(99), us(100));
        }
        fmt::print("}}\n");
        if (plan_.pauses) pause("");
    }

   private:
    struct Connection {
        Fd fd;
        std::size_t next = 0;     // index of the request that is answered next
        std::size_t awaited = 0;  // number of replies
        std::string rest;         // the beginning of a reply
        Clock::time_point asked;
    };

    /// Waits until every connection is answered. None asks again.
    void wait_for_all() {
        auto waiting = std::count_if(connections_.begin(), connections_.end(), [](auto& one) { return one.awaited > 0; });
        go_on([&] { return waiting == 0; },
              [&](Connection& connection) {
                  --waiting;
                  if (plan_.close) connection.fd = Fd();
              });
    }

    /// Waits for a byte while no request is pending, so that the caller can examine the server.
    static void pause(const char* said) {
        fmt::print("{}", said);
        std::fflush(stdout);
        std::getchar();
    }

    [[nodiscard]] Connection connect() const {
        Connection connection;
        connection.fd = Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr_in address{.sin_family = AF_INET,
                                  .sin_port = htons(static_cast<in_port_t>(plan_.port)),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                                  .sin_zero = {}};
        if (!connection.fd) fail("socket");
        connection.asked = Clock::now();
        if (::connect(connection.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            fail("connect");
        const int on = 1;
        setsockopt(connection.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        // A connection that has its reply ends with a reset. Otherwise it would keep its port for a minute (TIME_WAIT,
        // tcp(7)), and connect(2) would soon measure how long the kernel looks for a free one.
        const linger reset{.l_onoff = 1, .l_linger = 0};
        if (plan_.close) setsockopt(connection.fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return connection;
    }

    void watch(Connection& connection) {
        epoll_event event{.events = EPOLLIN, .data = {.ptr = &connection}};
        if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.fd.get(), &event) != 0) fail("epoll_ctl");
    }

    void ask(Connection& connection) {
        const std::string& batch = batches_[connection.next];
        if (plan_.latency && !plan_.close) connection.asked = Clock::now();
        if (send(connection.fd.get(), batch.data(), batch.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(batch.size()))
            fail("send");
        connection.awaited = plan_.depth;
    }

    void ask_again(Connection& connection) {
        if (plan_.close) {
            connection = connect();
            watch(connection);
        }
        ask(connection);
    }

    /// Receives what has come, and checks it.
    void receive(Connection& connection, int flags) {
        const ssize_t size = recv(connection.fd.get(), buffer_.data(), buffer_.size(), flags);
        if (size < 0) fail("recv");
        if (size == 0) throw std::runtime_error("the server has closed a connection that waits for a reply");
        std::string_view bytes(buffer_.data(), static_cast<std::size_t>(size));
        std::string& rest = connection.rest;
        if (!rest.empty()) bytes = rest.append(bytes);
        while (!bytes.empty()) {
            if (connection.awaited == 0) wrong(bytes);
            const std::string_view reply = plan_.replies[connection.next];
            const std::size_t taken = plan_.http ? response_size(bytes, reply) : line_size(bytes, reply);
            if (taken == 0) break;
            bytes.remove_prefix(taken);
            if (++connection.next == plan_.replies.size()) connection.next = 0;
            --connection.awaited;
            ++answered_;
        }
        rest = std::string(bytes);
    }

    template <class Done, class Answered>
    void go_on(Done done, Answered answered) {
        std::array<epoll_event, 256> events;
        while (!done()) {
            const int patience = plan_.may_starve ? plan_.ms : 10'000;
            const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), patience);
            if (ready == 0 && plan_.may_starve) return;
            if (ready == 0) throw std::runtime_error("no reply for ten seconds");
            for (int i = 0; i < ready; ++i) {
                auto& connection = *static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr);
                receive(connection, MSG_DONTWAIT);
                if (connection.awaited == 0) answered(connection);
            }
        }
    }

    const Plan plan_;
    Fd epoll_;
    std::vector<std::string> batches_;  // by their first request
    std::vector<Connection> idle_;
    std::vector<Connection> connections_;
    std::vector<Clock::duration> times_;
    std::size_t answered_ = 0;
    std::array<char, 262'144> buffer_;
};

}  // namespace

int main(int argc, char** argv) {
    Plan plan;
    CLI::App app("asks a server on 127.0.0.1 again and again, and checks every reply", "load");
    app.add_option("port", plan.port)->required();
    app.add_option("--request", plan.requests, "the bytes to send; several are sent in turn")
        ->required()
        ->allow_extra_args(false);
    app.add_option("--reply", plan.replies, "the expected line, or with --http the body; one for each --request")
        ->required()
        ->allow_extra_args(false);
    app.add_flag("--http", plan.http, "replies are HTTP responses");
    app.add_option("--connections", plan.connections)->check(CLI::Range(1, 20'000))->capture_default_str();
    app.add_option("--depth", plan.depth, "requests sent at once on each connection")
        ->check(CLI::Range(1, 1'000))
        ->capture_default_str();
    app.add_option("--idle", plan.idle, "further connections that ask once, and stay open")->check(CLI::Range(0, 20'000));
    app.add_option("--ms", plan.ms, "how long")->check(CLI::Range(1, 600'000))->capture_default_str();
    app.add_flag("--close", plan.close, "open a new connection for each request");
    app.add_flag("--latency", plan.latency,
                 "report how long the replies took, in microseconds; with --close from connect(2) on");
    app.add_flag("--may-starve", plan.may_starve, "no reply within --ms is not a failure: report 0 requests");
    app.add_flag("--pauses", plan.pauses,
                 "print `warm` after the first round and wait for a byte on standard input; wait again after the result");
    CLI11_PARSE(app, argc, argv);
    if (plan.requests.size() != plan.replies.size()) {
        fmt::print(stderr, "load: each --request needs one --reply\n");
        return 2;
    }
    rlimit descriptors{};
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    try {
        Load(std::move(plan)).run();
        return 0;
    } catch (const std::exception& error) {
        fmt::print(stderr, "load: {}\n", error.what());
        return 1;
    }
}
