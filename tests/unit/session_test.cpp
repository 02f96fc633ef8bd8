// A conversation: cut anywhere, ended in every way, and with no more memory than it needs.
#include "protocol/session.hpp"

#include <gtest/gtest.h>
#include <malloc.h>

#include "conversation.hpp"

// Only a sanitizer's allocator has this function. GCC has no header for it.
extern "C" std::size_t __sanitizer_get_current_allocated_bytes() __attribute__((weak));

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

const std::string get = request("GET /fib/7");
const std::string post = json_request("POST /api/tasks", R"({"title":"a"})");
const std::string post_head = post.substr(0, post.size() - 13);

std::size_t allocated() {
    if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/// Sets the log's level for a while.
struct Level {
    explicit Level(logging::Level level) { logging::set_level(level); }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { logging::set_level(logging::Level::normal); }
};

}  // namespace

// --- cut anywhere -------------------------------------------------------------------------------------------------------

TEST(Session, AnswersLinesTheSameHoweverTheyAreCut) {
    Server server;
    const std::string conversations[] = {
        "30\n",
        "fib 10\r\nsleep 1.5\nhello alice\r\n20\n\n\r\ncount\nhelp\nquit\n30\nlist\n",
        "list\nadd buy milk\nadd caf\xc3\xa9 \xf0\x9f\x98\x80\nlist\nshow {id}\ndone {id}\nlist\nundo {id}\n",
        "edit {id} another\ndescribe {id} two litres\nshow {id}\ndelete {id}\nshow {id}\nlist\ncount\n",
        "1\nadd \xff\nadd \xc3\nadd a\0b\nadd a\rb\nhello \xe2\x82\n\0\n\r\r\n1\r2\n \t \n3\n"s,
        "add \xff\nadd more\n",
        "\n\r\r\nadd more\n",
        "\x16\x03\x01 HTTP/1.1\nadd more\n",
        "\n\x16\x03",
        "\x16\nadd more\n",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nadd more\n",
        "7\nPOST /x HTTP/1.1\r\nHost: x\r\n\r\nadd more\n",
        "7\nPOST /" + std::string(9000, 'x') + " HTTP/1.1\nadd more\n",
        std::string(9000, '\x80') + "\nadd more\n",
        "\r\n\r\n\n \n6\n",
        "sleep 61\nfib 0\nfib\nquit now\nnonsense\nGET /fib/7\nget / HTTP/1.1 \nGET / HTTP/1.1\nHost: x\n\n",
        "quitting\r\nquit\r\nand so on\r\nGET / HTTP/1.1\r\n\r\n",
        "10\nadd half a li",
        "10\r\n20\r",
        "10\n   ",
        std::string(8192, 'x') + "\n1\n",
        std::string(8192, 'x') + "\r\n1\r\n",
        std::string(8192, 'x') + "\r",
        std::string(8193, 'x') + "\n1\n",
        std::string(8193, 'x') + "\r\n1\r\n",
        std::string(8193, 'x'),
        std::string(8192, ' ') + "1\n1\n",
        std::string(20'000, 'x') + "\n\n1\n" + std::string(9000, 'y') + "\r\nGET / HTTP/1.1\n",
        "GE " + std::string(8191, '\r') + "\n1\n",
        "lower " + std::string(9000, 'x') + " HTTP/1.1\r\n\r\n1\n"};
    for (const auto& conversation : conversations) expect_the_same_however_cut(server, conversation);
}

TEST(Session, AnswersHttpTheSameHoweverItIsCut) {
    Server server;
    const std::string chunked = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n";
    const std::string conversations[] = {
        get,
        get + get + request("GET /sleep/2") + request("HEAD /fib/8") + request("GET /server") + request("DELETE /nothing"),
        request("GET /api/tasks") + post + request("GET /api/tasks/{id}") + request("GET /api/tasks"),
        "\r\n\r\n" + get + "\r\n\r\n" + get + "\r\n",
        request("POST /api/task", chunked) +
            "5;x=y\r\n{\"tit\r\n008\r\nle\":\"a\"}\r\n0\r\nTrailer: x\r\nContent-Length: 9\r\n\r\n" + get,
        request("POST /api/task", chunked + "Expect: 100-continue\r\n") + "d\r\n{\"title\":\"a\"}\r\n0\r\n\r\n" + get,
        request("PUT /api/tasks/{id}", "Expect: 100-Continue\r\nContent-Type: application/json\r\n", R"({"done":true})") +
            get,
        request("PUT /api/tasks/{id}", "Content-Type: application/json\r\n", "[nonsense") +
            request("DELETE /api/tasks/{id}"),
        "GET /fib/7 HTTP/1.0\r\n\r\n" + get,
        "GET /fib/7 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get,
        request("GET /fib/7", "Connection: close\r\n") + get,
        "GET http://localhost:9999/say/hello?name=a+%C3%A9 HTTP/1.1\r\nHost: evil\r\n\r\n",
        request("GET /fib/7", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n") + get,
        request("POST /fib/7", "Upgrade: websocket\r\nConnection: upgrade\r\n", "GET / HTTP/1.1\r\n\r\n") + get,
        get + "fib 30\nquit\n",
        get + "GET /fib/7 HTT",
        get + "G",
        post.substr(0, post.size() - 4),
        request("POST /api/task", chunked) + "5\r\n{\"t",
        request("GET /fib/7", "X: " + std::string(9000, 'x') + "\r\n") + get,
        "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n" + get,
        "GET /" + std::string(17'000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n" + get,
        "GET /" + std::string(9000, 'x') + "\n",
        request("GET /fib/7", "X: " + std::string(17'000, 'x') + "\r\n") + get,
        request("POST /api/task", chunked) + "1;" + std::string(17'000, 'x') + "\r\n0\r\n0\r\n\r\n" + get,
        request("POST /api/task", chunked) + "0\r\nX: " + std::string(17'000, 'x') + "\r\n\r\n" + get,
        json_request("POST /api/task", R"({"title":"a"})" + std::string(65'523, ' ')) + get,
        json_request("POST /api/task", std::string(65'537, ' ')) + get,
        request("POST /api/task", chunked) + "10001\r\n" + std::string(65'537, ' ') + "\r\n0\r\n\r\n" + get,
        request("POST /api/task", chunked) + "8000\r\n" + std::string(32'768, ' ') + "\r\n8001\r\n" +
            std::string(32'769, ' ') + "x"};
    for (const auto& conversation : conversations) expect_the_same_however_cut(server, conversation);
}

TEST(Session, AnswersManyRequestsAtOnceInTheirOrder) {
    Server server;
    std::string lines;
    std::string said;
    for (int n = 1; n <= 400; ++n) {
        lines += std::to_string(n % 20 + 1) + "\nsleep " + std::to_string(n % 60) + "\n";
        said += "fib: " + std::to_string(fib(n % 20 + 1)) + "\nslept: " + std::to_string(n % 60) + "\n";
    }
    EXPECT_EQ(ask(server, lines), said);
    std::string requests;
    for (int n = 1; n <= 400; ++n) requests += request("GET /fib/" + std::to_string(n % 25 + 1));
    const auto all = responses(ask(server, requests));
    ASSERT_EQ(all.size(), 400U);
    for (int n = 1; n <= 400; ++n)
        ASSERT_TRUE(all[static_cast<std::size_t>(n - 1)].body.starts_with("{\"n\":" + std::to_string(n % 25 + 1) + ","));
}

// --- which protocol -----------------------------------------------------------------------------------------------------

TEST(Session, FirstNonEmptyLineDecidesTheProtocol) {
    Server server;
    const std::string x(9000, 'x');
    for (const auto& first :
         {"GET / HTTP/1.1\r\n"s, "GET / HTTP/1.1\n"s, "\r\n\n GET / HTTP/1.0\r\n"s, "get / HTTP/1.1\r\n"s, "x HTTP/9\r\n"s,
          "hello HTTP/1.1 \r\n"s, "GET /" + x, "BREW " + x, "GET /" + x + "\n"})
        EXPECT_FALSE(Client(server).send(first).half_close().take().starts_with("error: ")) << first.substr(0, 40);
    for (const auto& first : {"GET /\r\n"s, "GET / HTTP/1.1 x\r\n"s, "GET / HTTP/\r\n"s, "GET / HTTP/x\r\n"s,
                              "GET / http/1.1\r\n"s, "HTTP/1.1\r\n"s, "GET / RTSP/1.0\r\n"s, "SOURCE / ICE/1.0\r\n"s,
                              "GET /" + std::string(8000, 'x') + "\n", "get /" + x, "GET\t/" + x, " " + x, x})
        EXPECT_TRUE(Client(server).send(first).half_close().take().starts_with("error: ")) << first.substr(0, 40);
}

TEST(Session, NeverMixesTheTwoProtocols) {
    Server server;
    for (const char* line : {"fib 7\n", "quit\r\n", "7\r\n\r\n"}) {
        const auto all = responses(ask(server, get + line + "\r\n" + get));
        ASSERT_EQ(all.size(), 2U) << line;
        EXPECT_GE(all[1].status, 400) << line;
    }
    EXPECT_EQ(ask(server, "7\n" + get).find("HTTP/1.1 "), std::string::npos);
    EXPECT_EQ(ask(server, "nonsense\n" + get).find("HTTP/1.1 "), std::string::npos);
}

TEST(Session, EndsAfterAFirstLineThatIsNotText) {
    Server server;
    const std::string full(8191, 'x');
    for (const auto& first :
         {"\x16\x03"s, "\x16\x03\x01\0\n"s, "\n\x16\x03 HTTP/1.1\n"s, "\x16\n"s, "\0\n"s, "add \x01\n"s, "add a\rb\n"s,
          "\r\r\n"s, "\x7f\n"s, "7\xc2\x85\n"s, "add \xff\r\n"s, "add \xc3\n"s, "\r\n\r\n\0\r\nQUIT\n"s,
          "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"s, "PROXY UNKNOWN\n"s, full + "\xc3x\n", full + "\x80 and more\n"}) {
        Client client(server);
        const std::string said = client.send(first + "add evil\n").take();
        EXPECT_TRUE(said.starts_with("error: ") && said.find('\n') == said.size() - 1) << said << " to " << first;
        EXPECT_TRUE(client.session.said_all()) << first;
        EXPECT_FALSE(client.session.unfinished()) << first;
    }
    EXPECT_NE(ask(server, "\x16\x03").find("TLS"), std::string::npos);
    EXPECT_EQ(Client(server).send("\x16").stop().take(), "");
    EXPECT_TRUE(server.tasks.list().empty());
    for (const auto& first : {"add a\tb\n"s, "caf\xc3\xa9 \xf0\x9f\x98\x80\n"s, "PROXY\n"s, "PROXY\tx\n"s, " PROXY x\n"s,
                              "proxy x\n"s, full + "\xc3\xa9\n", full + "\xf0\x9f\x98\x80\n",
                              full.substr(1) + "\xf0\x9f\x98\x80\n", full.substr(2) + "\xf0\x9f\x98\x80\n", full + "x\0\n"s})
        EXPECT_TRUE(Client(server).send(first + "7\n").take().ends_with("fib: 13\n")) << first.substr(8000);
}

TEST(Session, EndsWhenHttpFollowsALine) {
    Server server;
    const auto ends = [&](const std::string& line) {
        Client client(server);
        const std::string said = client.send("7\n" + line + "\r\nadd evil\n").take();
        EXPECT_TRUE(said.starts_with("fib: 13\nerror: ")) << line;
        return client.session.said_all();
    };
    const std::string x(9000, 'x');
    for (const auto& line : {"GET / HTTP/1.1"s, "POST /a?b HTTP/1.0"s, "X * HTTP/9"s, "  GET\t /  HTTP/1.1\t"s,
                             "GET\t/\tHTTP/1.1"s, "POST /" + x, "POST /" + x + " HTTP/1.1"})
        EXPECT_TRUE(ends(line)) << line.substr(0, 40);
    EXPECT_TRUE(server.tasks.list().empty());
    for (const auto& line :
         {"GET /"s, "GET HTTP/1.1"s, "HTTP/1.1"s, "GET / HTTP/"s, "GET / HTTP/x"s, "GET / http/1.1"s, "get / HTTP/1.1"s,
          "Get / HTTP/1.1"s, "GET /a /b HTTP/1.1"s, "M-SEARCH * HTTP/1.1"s, "PROXY TCP4"s, "\x16\x03"s, "post /" + x})
        EXPECT_FALSE(ends(line)) << line.substr(0, 40);
    EXPECT_TRUE(ask(server, "7\nadd learn HTTP/1.1\n").ends_with(" learn HTTP/1.1\n"));
}

TEST(Session, WithRecvFramingTakesEachChunkForALine) {
    Options options = test_options();
    options.framing = Framing::recv;
    Server server(options);
    Client client(server);
    EXPECT_EQ(client.send("30").take(), "fib: 832040\n");
    EXPECT_EQ(client.send("10\n").take(), "fib: 55\n");
    EXPECT_EQ(client.send("10\r\n").take(), "fib: 55\n");
    EXPECT_EQ(client.send("1").take() + client.send("0").take(),
              "fib: 1\nerror: fib wants a whole number from 1 to 50, as in: fib 30\n");
    EXPECT_TRUE(client.send("10\n10\n").take().starts_with("error: "))
        << "two lines in one chunk: the flaw that this framing shows";
    EXPECT_EQ(client.send("\n").take() + client.send("\r\n").take() + client.send(" ").take(), "");
    EXPECT_TRUE(client.send(get).take().starts_with("error: "));
    EXPECT_TRUE(client.send("GET / HTTP/1.1").take().starts_with("error: "));
    EXPECT_TRUE(client.send("\x16\x03\x01").take().starts_with("error: "));
    EXPECT_TRUE(Client(server).send("\x16\x03").send("7").take().ends_with("\nfib: 13\n")) << "the first one, too";
    EXPECT_EQ(client.send("add a\0b"sv).take().find("added"), std::string::npos);
    EXPECT_FALSE(client.session.unfinished());
    EXPECT_EQ(client.send("quit").take(), "bye:\n");
    EXPECT_EQ(client.send("30").take(), "");
    EXPECT_TRUE(client.half_close().closed);
}

// --- how it ends --------------------------------------------------------------------------------------------------------

TEST(Session, AnswersHalfALineAtHalfCloseButNotAtStop) {
    const std::pair<std::string, std::string> rows[] = {
        {"10", "fib: 55\n"},
        {"1\n10", "fib: 55\n"},
        {"1\r\n10\r", "fib: 55\n"},
        {"10\r", "fib: 55\n"},
        {" 10 ", "fib: 55\n"},
        {"1\n", ""},
        {"1\n  ", ""},
        {"\r", ""},
        {"", ""},
        {"nonsens", "error: no such command, help lists them\n"},
        {std::string(8192, 'x'), "error: no such command, help lists them\n"}};
    Server server;
    for (const auto& [input, reply] : rows) {
        Client client(server);
        client.send(input).take();
        EXPECT_EQ(client.session.unfinished(), !input.empty() && !input.ends_with('\n')) << input;
        EXPECT_FALSE(client.closed);
        EXPECT_EQ(client.half_close().take(), reply) << input;
        EXPECT_TRUE(client.closed);
        EXPECT_EQ(Client(server).send(input).stop().take(), input.find('\n') == input.npos ? "" : "fib: 1\n");
        EXPECT_TRUE(Client(server).send(input).stop().closed);
    }
}

TEST(Session, AnswersHalfAMessage400AtHalfClose408AtTimeOut) {
    Server server;
    const std::string halves[] = {"GET /fib/7 HTTP/1.1\r\n",
                                  "GET /fib/7 HTTP/1.1\r\nHost: localhost\r\n\r",
                                  post_head,
                                  post.substr(0, post.size() - 1),
                                  get + "G",
                                  get + "GET /fib/7 HTTP/1.1",
                                  request("POST /x", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n"};
    for (const auto& half : halves) {
        const std::size_t before = half.starts_with(get) ? 1 : 0;
        const auto ended = [&](auto end) {
            Client client(server);
            client.send(half);
            EXPECT_TRUE(client.session.unfinished()) << half;
            end(client);
            const auto all = responses(client.take());
            EXPECT_LE(all.size(), before + 1) << half;
            if (all.size() == before) return 0;
            EXPECT_EQ(all.back().field("Connection"), "close");
            return all.back().status;
        };
        EXPECT_EQ(ended([](Client& client) { EXPECT_TRUE(client.half_close().closed); }), 400) << half;
        EXPECT_EQ(ended([](Client& client) { EXPECT_TRUE(client.stop().closed); }), 0) << half;
        EXPECT_EQ(ended([](Client& client) {
                      EXPECT_FALSE(client.time_out().closed) << "before the client could read the 408";
                      EXPECT_TRUE(client.session.said_all());
                      EXPECT_TRUE(client.time_out().closed);
                  }),
                  408)
            << half;
    }
    EXPECT_EQ(responses(Client(server).send("GET /fib/7 HTTP/1.1").half_close().take()).at(0).status, 400);
    EXPECT_TRUE(server.tasks.list().empty()) << "half a request was carried out";
}

TEST(Session, TimesOutSilentlyBetweenRequestsOrInALine) {
    Server server;
    for (const std::string& input :
         {""s, "7\n"s, "7\nfib 1"s, std::string(9000, 'x'), get, get + "\r\n", "quit\n"s, "GET /fib/7 HTT"s}) {
        Client client(server);
        client.send(input).take();
        EXPECT_EQ(client.time_out().take(), "") << input;
        EXPECT_TRUE(client.closed) << input;
    }
}

TEST(Session, TimesOutWhenTheClientTakesNoReply) {
    Server server;
    Session session(server.service, server.spare);
    const std::string input = get + "GET /fib/7 HTTP/1.1\r\n";
    session.received(input);
    answer(session);
    ASSERT_EQ(session.next(), Next::write);
    session.time_out();
    EXPECT_EQ(session.next(), Next::close) << "a 408 would not be read, either";
}

TEST(Session, ClosesAtOnceWhenAbandoned) {
    Server server;
    Session session(server.service, server.spare);
    session.received("sleep 1\n7\n");
    ASSERT_EQ(session.next(), Next::work);
    Work work = session.work();
    session.abandon();
    EXPECT_EQ(session.next(), Next::close);
    session.reply(std::get<Wait>(work).reply);
    EXPECT_EQ(session.next(), Next::close);
    EXPECT_EQ(session.output(), "");
}

TEST(Session, AnswersCompleteRequestsWhenStopped) {
    Server server;
    const auto said = [&](const std::string& input) {
        Session session(server.service, server.spare);
        session.received(input);
        EXPECT_EQ(session.next(), Next::work);
        Work work = session.work();
        session.stop();
        session.reply(std::get<Wait>(work).reply);
        answer(session);
        EXPECT_EQ(session.next(), Next::write);
        std::string output(session.output());
        session.sent(output.size());
        EXPECT_EQ(session.next(), Next::close);
        return output;
    };
    EXPECT_EQ(said("sleep 1\n7\n8"), "slept: 1\nfib: 13\n");
    EXPECT_EQ(said("sleep 1\nquit\n8\n"), "slept: 1\nbye:\n");
    const auto all = responses(said(request("GET /sleep/1") + get));
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].field("Connection") + all[1].field("Connection"), "close") << "the last one says so";
}

TEST(Session, IgnoresInputAfterTheLastReply) {
    Server server;
    const std::string last_words[] = {"quit\n", request("GET /fib/7", "Connection: close\r\n"),
                                      "GET /fib/7 HTTP/1.0\r\n\r\n", "GET / HTTP/2.0\r\n\r\n"};
    for (const auto& last : last_words) {
        Client client(server);
        EXPECT_FALSE(client.session.said_all());
        EXPECT_NE(client.send(last + "add too late\n" + get).take(), "");
        EXPECT_TRUE(client.session.said_all()) << last;
        EXPECT_FALSE(client.session.unfinished()) << last;
        EXPECT_EQ(client.send("add too late\n").send(get).send(std::string(100'000, 'x')).take(), "");
        EXPECT_FALSE(client.session.unfinished()) << last;
        EXPECT_FALSE(client.closed);
        EXPECT_EQ(client.half_close().take(), "");
        EXPECT_TRUE(client.closed);
        EXPECT_TRUE(Client(server).send(last).stop().closed);
    }
    EXPECT_TRUE(server.tasks.list().empty());
}

TEST(Session, ReadsNothingWhileOutputWaits) {
    Server server;
    Session session(server.service, server.spare);
    session.received("1\n2\nqu");
    answer(session);
    answer(session);
    for (const char byte : "fib: 1\nfib: 1\n"sv) {
        EXPECT_EQ(session.next(), Next::write);
        EXPECT_EQ(session.output().front(), byte);
        session.sent(1);
    }
    EXPECT_EQ(session.next(), Next::read);
    session.received("it\n");
    answer(session);
    for (const auto left : {"bye:\n", "ye:\n", "e:\n", ":\n", "\n"}) {
        EXPECT_EQ(session.next(), Next::write);
        EXPECT_EQ(session.output(), left);
        EXPECT_FALSE(session.said_all());
        session.sent(1);
    }
    EXPECT_TRUE(session.said_all());
    EXPECT_EQ(session.next(), Next::read);
    session.received_end();
    EXPECT_EQ(session.next(), Next::close);
}

// --- how much waits ------------------------------------------------------------------------------------------------------

TEST(Session, WritesWhenNoRequestIsLeftOr64KiBWait) {
    Server server;
    Session session(server.service, server.spare);
    const std::string name(8000, 'x');
    std::string input;
    for (int i = 0; i < 20; ++i) input += "hello " + name + "\n";
    session.received(input);
    for (int written = 0; written < 20; ++written) {
        while (session.next() == Next::work) {
            EXPECT_LT(session.output().size(), output_high_water);
            answer(session);
        }
        ASSERT_EQ(session.next(), Next::write);
        EXPECT_TRUE(session.output().size() >= output_high_water || written > 11) << "written early: " << written;
        EXPECT_LT(session.output().size(), output_high_water + 8100);
        session.sent(8008);  // one reply
    }
    EXPECT_EQ(session.next(), Next::read);
    EXPECT_TRUE(session.output().empty());
}

TEST(Session, KeepsOnlyUnsentOutput) {
    Server server;
    for (int i = 0; i < 200; ++i) server.tasks.add({.id = {}, .title = std::string(200, 'x'), .description = {}});
    const std::size_t list_size = ask(server, "list\n").size();  // above 40 KB
    std::string input;
    for (int i = 0; i < 400; ++i) input += "list\n";
    Session session(server.service, server.spare);
    session.received(input);
    const std::size_t before = allocated();
    for (;;) {  // a client that takes its replies, but never the last byte
        const Next next = session.next();
        if (next == Next::work) {
            session.reply(std::get<Reply>(server.asked(session.work())));
        } else if (next == Next::write && session.output().size() > 1) {
            session.sent(session.output().size() - 1);
        } else {
            break;
        }
    }
    const std::size_t after = allocated();
    EXPECT_LT(after, before + 8 * (output_high_water + list_size)) << "bytes that were sent long ago are still kept";
}

TEST(Session, KeepsNoMemoryForAnIdleClient) {
    Server server;
    ask(server, "list\n" + get);
    const auto kept_by = [&](const std::string& input, std::size_t clients) {
        std::vector<std::unique_ptr<Client>> all;
        all.reserve(clients);
        const std::size_t before = allocated();
        for (std::size_t i = 0; i < clients; ++i) {
            all.push_back(std::make_unique<Client>(server));
            all.back()->send(input).take();
        }
        return (allocated() - before) / clients;
    };
    const std::size_t fresh = kept_by("", 100);
    for (const std::string& input :
         {"list\n"s + std::string(4000, ' ') + "\n", get + get, json_request("PUT /fib/7", std::string(9000, 'x')),
          "hello " + std::string(4000, 'x') + "\n"})
        EXPECT_LE(kept_by(input, 100), fresh + 128) << input.substr(0, 40);  // including the buffers they share
}

// --- the log ------------------------------------------------------------------------------------------------------------

TEST(Session, LogsEachRequestIfVerbose) {
    Server server;
    testing::internal::CaptureStderr();
    ask(server, "fib 7\nnonsense\n");
    ask(server, get);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    const Level verbose(logging::Level::verbose);
    testing::internal::CaptureStderr();
    ask(server, "fib 7\nadd a\rb\x1b[2J\n\nsleep 61\n" + std::string(9000, 'y') + "\n");
    ask(server, request("GET /say/hello?name=alice") + request("DELETE /fib/7") + "NONSENSE");
    Client(server).send("GET / HTTP/1.1\r\nHo").half_close();
    const std::string log = testing::internal::GetCapturedStderr();
    std::string shown;
    for (std::size_t at = 0; at < log.size(); at = log.find('\n', at) + 1) {
        const std::string line = log.substr(at, log.find('\n', at) - at);
        EXPECT_TRUE(line.starts_with("[") && line.ends_with("ms")) << line;
        EXPECT_LT(line.size(), 300U);
        const auto text = line.find("[INFO] ") + 7;
        shown += line.substr(text, line.find(" (127.0.0.1) ") - text).substr(0, 60) + "\n";
    }
    EXPECT_EQ(shown, "200 fib 7\n400 add a\\x0db\\x1b[2J\n400 sleep 61\n400 " + std::string(56, 'y') +
                         "\n200 GET /say/hello?name=alice\n405 DELETE /fib/7\n501 ? \n400 GET /\n");
}
