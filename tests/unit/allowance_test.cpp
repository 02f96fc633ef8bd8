// How long the server waits for a client. The test sets the time; the sockets are real.
#include "sockets/allowance.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.hpp"
#include "sockets/sockets.hpp"

using namespace std::chrono_literals;

namespace {

const TimePoint now = Clock::now();

/// A loopback connection with small buffers, so that most of what the client does not read stays with the server.
struct Connection {
    Connection() {
        const Fd listener(socket(AF_INET, SOCK_STREAM, 0));
        const int small = 4096;
        setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
        socklen_t size = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(bind(listener.get(), generic, size), 0);
        EXPECT_EQ(listen(listener.get(), 1), 0);
        EXPECT_EQ(getsockname(listener.get(), generic, &size), 0);
        client = Fd(socket(AF_INET, SOCK_STREAM, 0));
        setsockopt(client.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        EXPECT_EQ(connect(client.get(), generic, size), 0);
        server = Fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK));
    }

    void say(std::string_view bytes) const {
        EXPECT_EQ(send(client.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    }
    /// Gives the client's kernel up to 0.2 s to acknowledge what it takes.
    void settle() const {
        for (int i = 0; i < 200 && !delivered(server.get()); ++i) usleep(1000);
    }
    std::size_t read_all() const {
        char bytes[4096];
        std::size_t all = 0;
        for (ssize_t size; (size = recv(client.get(), bytes, sizeof bytes, 0)) > 0;) all += static_cast<std::size_t>(size);
        return all;
    }

    Fd client;
    Fd server;
};

struct AllowanceTest : testing::Test {
    /// Answers and sends until the session must read, or the socket takes no more.
    void go_on() {
        while (session.next() == Next::work) session.reply(std::get<Reply>(session.work()));
        while (session.next() == Next::write) {
            const std::string_view output = session.output();
            if (!went(session, fd, send(fd, output.data(), output.size(), MSG_NOSIGNAL))) return;
        }
    }

    Service service{Options()};
    Spare spare;
    Connection connection;
    Session session{service, spare};
    Allowance allowance{5s, now};
    int fd = connection.server.get();
};

}  // namespace

TEST_F(AllowanceTest, EndsAWhileAfterTheLastRequest) {
    EXPECT_EQ(allowance.ends(session, now + 1s), now + 5s);
    allowance.renew(now + 2s);
    EXPECT_EQ(allowance.ends(session, now + 3s), now + 7s);
    allowance.renew(now + 1s);
    EXPECT_EQ(allowance.ends(session, now + 3s), now + 7s) << "a loop may pass the time at which its round began";
}

TEST_F(AllowanceTest, OfZeroNeverEnds) {
    Allowance for_ever(0s, now);
    EXPECT_EQ(for_ever.ends(session, now + 1000h), TimePoint::max());
    for_ever.renew(now + 1s);
    EXPECT_EQ(for_ever.ends(session, now + 1000h), TimePoint::max());
}

TEST_F(AllowanceTest, IsNotOverIfARequestHasArrived) {
    connection.say(std::string(5000, '\n') + "fib 6\n");  // more than one recv(2)
    allowance.time_out(session, fd, now + 9s);
    EXPECT_EQ(session.next(), Next::work);
    EXPECT_EQ(allowance.ends(session, now + 9s), now + 14s);
}

TEST_F(AllowanceTest, IsNotOverIfAHalfCloseEndsALastLine) {
    connection.say("fib 6");
    shutdown(connection.client.get(), SHUT_WR);
    allowance.time_out(session, fd, now + 9s);
    EXPECT_EQ(session.next(), Next::work);
}

TEST_F(AllowanceTest, IsOverWithoutACompleteRequest) {
    connection.say("\n\n\nfib 6");
    allowance.time_out(session, fd, now + 9s);
    EXPECT_EQ(session.next(), Next::close);
    EXPECT_TRUE(session.over());
    EXPECT_TRUE(allowance.may_close(session, fd, now + 9s));
}

TEST_F(AllowanceTest, GivesTheLastReplyTenSecondsAndTheHangUpOne) {
    std::string input;
    for (int i = 0; i < 2000; ++i) input += "help\n";
    session.received(input + "quit\n");
    while (!session.said_all()) {  // the send buffer grows until it takes the last reply
        go_on();
        ASSERT_NE(session.next(), Next::close);
        if (session.next() == Next::write) {
            char bytes[4096];
            ASSERT_GT(recv(connection.client.get(), bytes, sizeof bytes, 0), 0);
        }
    }
    EXPECT_EQ(allowance.ends(session, now), now + delivery_pause);
    allowance.time_out(session, fd, now + delivery_pause);
    EXPECT_EQ(session.next(), Next::read) << "the client has not received it yet";
    EXPECT_EQ(allowance.ends(session, now + delivery_pause), now + 2 * delivery_pause);
    allowance.time_out(session, fd, now + delivery_limit - 1ms);
    EXPECT_EQ(allowance.ends(session, now + 9s), now + delivery_limit) << "and no longer than that";

    std::size_t read = 0;
    while (!delivered(fd)) {
        char bytes[4096];
        read += static_cast<std::size_t>(recv(connection.client.get(), bytes, sizeof bytes, 0));
    }
    allowance.time_out(session, fd, now + 5s);
    EXPECT_EQ(session.next(), Next::read);
    EXPECT_EQ(allowance.ends(session, now + 5s), now + 5s + farewell_limit);
    allowance.time_out(session, fd, now + 5s + farewell_limit);
    EXPECT_EQ(session.next(), Next::close);
    EXPECT_TRUE(allowance.may_close(session, fd, now + 6s));
}

TEST_F(AllowanceTest, KeepsAStoppedConnectionUntilAllIsDelivered) {
    session.received("fib 6\n");
    go_on();
    const std::string much(4'000'000, 'x');
    const ssize_t sent = send(fd, much.data(), much.size(), 0);  // some of it stays in the server's kernel
    ASSERT_GT(sent, 0);
    session.stop();
    ASSERT_EQ(session.next(), Next::close);
    connection.settle();
    EXPECT_FALSE(allowance.may_close(session, fd, now));
    connection.say("help\n");  // it would reset the connection, had that been closed
    EXPECT_FALSE(allowance.may_close(session, fd, now + 1s));
    char bytes[65'536];
    for (ssize_t left = sent; left > 0 && !allowance.may_close(session, fd, now + 2s);)
        left -= recv(connection.client.get(), bytes, sizeof bytes, 0);
    EXPECT_TRUE(allowance.may_close(session, fd, now + 2s));
}

TEST_F(AllowanceTest, ClosesAStoppedConnectionAfterTenSeconds) {
    const std::string much(4'000'000, 'x');
    ASSERT_GT(send(fd, much.data(), much.size(), 0), 0);
    session.stop();
    EXPECT_FALSE(allowance.may_close(session, fd, now));
    EXPECT_FALSE(allowance.may_close(session, fd, now + delivery_limit - 1ms));
    EXPECT_TRUE(allowance.may_close(session, fd, now + delivery_limit));
}

TEST_F(AllowanceTest, ClosesAStoppedConnectionThatIsReset) {
    const std::string much(4'000'000, 'x');
    ASSERT_GT(send(fd, much.data(), much.size(), 0), 0);
    session.stop();
    EXPECT_FALSE(allowance.may_close(session, fd, now));
    connection.client.close();  // with bytes unread: a reset
    EXPECT_TRUE(allowance.may_close(session, fd, now));
}
