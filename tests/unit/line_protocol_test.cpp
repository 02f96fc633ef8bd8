// The line protocol: every request of its table, every error, every limit.
#include "protocol/line_protocol.hpp"

#include <gtest/gtest.h>

#include "conversation.hpp"

using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

/// A server with one task, and a client whose lines may name it: `ID` is its whole id, `SHORT` its first eight digits.
struct Talk {
    /// The reply to a line, without its LF.
    std::string operator()(std::string_view line) {
        client.waits.clear();
        std::string reply = client.send(named(line) + "\n").take();
        EXPECT_TRUE(reply.ends_with('\n')) << line;
        if (!reply.empty()) reply.pop_back();
        return reply;
    }
    [[nodiscard]] std::string named(std::string_view text) const {
        return replaced(replaced(std::string(text), "ID", id), "SHORT", id.substr(0, 8));
    }

    Server server;
    Client client{server};
    std::string id = server.tasks.add({.id = {}, .title = "buy milk", .description = {}}).id;
};

}  // namespace

TEST(Lines, ComputeFibAndWait) {
    Talk talk;
    const struct {
        std::string_view request, reply;
        std::chrono::nanoseconds wait;
    } rows[] = {{"30", "fib: 832040", 0s},
                {"fib 30", "fib: 832040", 0s},
                {"fib 1", "fib: 1", 0s},
                {"2", "fib: 1", 0s},
                {"fib 20", "fib: 6765", 0s},
                {"fib 21", "fib: 10946", 0s},
                {"0030", "fib: 832040", 0s},
                {" \t fib \t 10\t ", "fib: 55", 0s},
                {"\t10 ", "fib: 55", 0s},
                {"sleep 1.5", "slept: 1.5", 1500ms},
                {"sleep 2", "slept: 2", 2s},
                {"sleep .25", "slept: .25", 250ms},
                {"sleep 01.50", "slept: 01.50", 1500ms},
                {"sleep 59.999", "slept: 59.999", 59'999ms},
                {"sleep 60", "slept: 60", 60s},
                {"sleep 0060.0", "slept: 0060.0", 60s},
                {"hello alice", "hello: alice", 1s},
                {"hello  J\xc3\xb6rg  von X ", "hello: J\xc3\xb6rg  von X", 1s},
                {"quit", "bye:", 0s}};
    for (const auto& row : rows) {
        EXPECT_EQ(talk(row.request), row.reply);
        const auto waited = talk.client.waits.empty() ? 0ns : talk.client.waits.front();
        EXPECT_EQ(waited, row.wait) << row.request;
    }
    EXPECT_TRUE(talk.client.session.said_all());
}

TEST(Lines, ManageTheTasks) {
    Talk talk;
    const auto both = [&](std::string_view line) { return replaced(talk(line), talk.id.substr(0, 8), "SHORT"); };
    EXPECT_EQ(both("list"), "tasks: 1\n[ ] SHORT buy milk");
    EXPECT_EQ(both("done ID"), "done: SHORT buy milk");
    EXPECT_EQ(both("list"), "tasks: 1\n[x] SHORT buy milk");
    EXPECT_EQ(both("undo SHORT"), "undone: SHORT buy milk");
    EXPECT_EQ(both("edit SHORT  buy  oat milk "), "edited: SHORT buy  oat milk");
    talk("describe SHORT two litres");
    EXPECT_EQ(talk("show SHORT"), talk.named("task: 4\nid: ID\ntitle: buy  oat milk\ndescription: two litres\ndone: false"));
    talk.server.tasks.change(talk.id, {.title = {}, .description = "two\nlines\r\n\x1b[2J", .done = true});
    EXPECT_EQ(talk("show SHORT"),
              talk.named("task: 4\nid: ID\ntitle: buy  oat milk\ndescription: two\\nlines\\x0d\\n\\x1b[2J\ndone: true"));
    const std::string added = talk("add pay rent");
    const std::string other = talk.server.tasks.list()[1].id.substr(0, 8);
    EXPECT_EQ(added, "added: " + other + " pay rent");
    EXPECT_EQ(both("list"), "tasks: 2\n[x] SHORT buy  oat milk\n[ ] " + other + " pay rent");
    EXPECT_EQ(both("delete SHORT"), "deleted: SHORT buy  oat milk");
    EXPECT_EQ(talk("delete " + other), "deleted: " + other + " pay rent");
    EXPECT_EQ(talk("list"), "tasks: 0");
}

TEST(Lines, SayTheNewDescriptionNotTheTitle) {
    Talk talk;
    EXPECT_EQ(talk("describe SHORT two litres"), talk.named("described: SHORT two litres"));
    EXPECT_EQ(talk.server.tasks.find(talk.id)->description, "two litres");
    EXPECT_EQ(talk.server.tasks.find(talk.id)->title, "buy milk");
}

TEST(Lines, NameATaskByAUniqueBeginning) {
    Talk talk;
    for (std::size_t size = 1; size <= talk.id.size(); ++size)
        EXPECT_TRUE(talk("done " + talk.id.substr(0, size)).starts_with("done: "));
    for (const char* none : {"done g", "show %", "show _", "undo -", "delete ID0", "edit '' x", "describe \xff x"}) {
        const std::string reply = talk(none);
        EXPECT_TRUE(reply.starts_with("error: ")) << none;
        EXPECT_NE(reply.find("no task"), reply.npos) << reply;
    }
    while (talk.server.tasks.named(talk.id.substr(0, 1)).size() < 2) talk("add another");
    for (const char* verb : {"show ", "done ", "undo ", "delete ", "edit ", "describe "}) {
        const bool wants_text = verb[0] == 'e' || verb == "describe "sv;
        const std::string reply = talk(verb + talk.id.substr(0, 1) + (wants_text ? " text" : ""));
        EXPECT_TRUE(reply.starts_with("error: more than one ")) << reply;
    }
    EXPECT_EQ(talk("done ID"), talk.named("done: SHORT buy milk"));
}

TEST(Lines, CountErrorsButNotEmptyLinesOrItself) {
    Server server;
    Client client(server);
    EXPECT_EQ(client.send("count\ncount\n").take(), "count: 0\ncount: 0\n");
    EXPECT_EQ(client.send("fib 1\n\n \r\ncount\nnonsense\ncount\n").take().substr(7),
              "count: 1\nerror: no such command, help lists them\ncount: 2\n");
    EXPECT_EQ(client.send(std::string(9000, 'x') + "\ncount\n").take().ends_with("\ncount: 3\n"), true);
    EXPECT_EQ(ask(server, "sleep 1\nlist\nhelp\nquit\n").substr(0, 9), "slept: 1\n");
    EXPECT_EQ(client.send("count\n").take(), "count: 7\n") << "of all clients of this server";
}

TEST(Lines, ListTheCommandsForHelp) {
    Talk talk;
    const std::string help = talk("help");
    const auto lines = static_cast<std::size_t>(std::count(help.begin(), help.end(), '\n'));
    EXPECT_TRUE(help.starts_with("commands: " + std::to_string(lines) + "\n")) << help;
    const auto commands = {"fib",      "sleep", "hello", "add",    "list",  "show", "edit",
                           "describe", "done",  "undo",  "delete", "count", "help", "quit"};
    EXPECT_EQ(lines, commands.size());
    for (const char* command : commands) EXPECT_NE(help.find(std::string("\n") + command + " "), help.npos) << command;
}

TEST(Lines, GetErrorsThatSayWhatWouldBeRight) {
    Talk talk;
    const auto expect = [&](std::string_view hint, std::initializer_list<std::string_view> lines) {
        for (const auto line : lines) {
            const std::string reply = talk(line);
            EXPECT_TRUE(reply.starts_with("error: ")) << line << ": " << reply;
            EXPECT_NE(reply.find(hint), reply.npos) << line << ": " << reply;
            EXPECT_EQ(reply.find_first_of("\n\r\x1b\xff"), reply.npos) << "more than one printable line";
        }
    };
    expect("help", {"nonsense", "FIB 30", "Quit", "quitting", "fib30", "30 31", "-1", "\0"sv, "\xff\xfe", "\r1"});
    expect("1 to 50", {"0", "51", "3x", "1.5", "1\r2", "99999999999999999999", "fib 0", "fib 51", "fib -1", "fib +1",
                       "fib 1.0", "fib ten", "fib 1 2", "fib 1e1", "fib \xd9\xa3", "fib 3\0"sv});
    expect("0 to 60", {"sleep -1", "sleep +1", "sleep 1e1", "sleep 1.2.3", "sleep .", "sleep 1,5", "sleep nan", "sleep inf",
                       "sleep 1 2", "sleep 60.000001", "sleep 61", "sleep 99999999999999999999999999999999"});
    expect("UTF-8", {"hello \xff", "add \xc3\x28", "add \xed\xa0\x80", "edit ID \xff", "describe ID \xff"});
    expect("control", {"hello a\tb", "hello a\0b"sv, "hello \xc2\x9b", "add a\0b"sv, "add a\rb", "add a\x7f",
                       "edit ID a\x1b[2J", "describe ID a\x01"});
    expect("no argument", {"list all", "count 1", "help me", "quit now"});
    expect("no task", {"show nothing", "done ID x", "delete IDx"});
    for (const auto form : {"fib N", "sleep SECONDS", "hello NAME", "add TITLE", "show ID", "edit ID TITLE",
                            "describe ID TEXT", "done ID", "undo ID", "delete ID"}) {
        const std::string reply = talk(std::string_view(form).substr(0, std::string_view(form).find(' ')));
        EXPECT_TRUE(reply.starts_with("error: ") && reply.ends_with(form)) << reply;
    }
    expect("as in: edit dba4", {"edit ID"});
    expect("as in: describe dba4", {"describe ID"});
    EXPECT_EQ(talk("list"), talk.named("tasks: 1\n[ ] SHORT buy milk")) << "an error changed something";
}

TEST(Lines, TakeFibUpToTheMaximum) {
    Options options = test_options();
    for (const int largest : {1, 30, 90}) {
        options.max_fib = largest;
        const Service limited(options);
        const auto refused = [&](int n) {
            const Work work = line_work("fib " + std::to_string(n), limited);
            const auto* reply = std::get_if<Reply>(&work);
            return reply && reply->body.find("1 to " + std::to_string(largest)) != std::string::npos;
        };
        EXPECT_FALSE(refused(std::max(largest - 1, 1)));
        EXPECT_FALSE(refused(largest));
        EXPECT_TRUE(refused(largest + 1));
    }
}

TEST(Lines, BecomeTheRightKindOfWork) {
    const Service service(test_options());
    EXPECT_TRUE(std::holds_alternative<Reply>(line_work("fib 20", service)));
    EXPECT_TRUE(std::holds_alternative<Compute>(line_work("fib 21", service)));
    EXPECT_TRUE(std::holds_alternative<Wait>(line_work("hello x", service)));
    EXPECT_TRUE(std::holds_alternative<Count>(line_work("count", service)));
    const auto asks = [&](std::string_view line) { return std::get<Store>(line_work(line, service)); };
    EXPECT_FALSE(asks("list").query.writes());
    EXPECT_TRUE(asks("add x").query.writes());
    const Rows found = {{.id = "1", .title = "a", .description = {}}};
    EXPECT_TRUE(std::holds_alternative<Reply>(asks("show 1").answered(found)));
    for (const auto line : {"edit 1 x", "describe 1 x", "done 1", "undo 1", "delete 1"}) {
        EXPECT_FALSE(asks(line).query.writes()) << line << " first looks for the task";
        EXPECT_TRUE(std::get<Store>(asks(line).answered(found)).query.writes()) << line;
        const Work deleted_meanwhile = std::get<Store>(asks(line).answered(found)).answered(Rows{});
        EXPECT_EQ(std::get<Reply>(deleted_meanwhile).body, "error: the task has just been deleted");
    }
}

TEST(Lines, LimitTitlesAndDescriptionsInCharacters) {
    Talk talk;
    for (const auto letter : {"a"sv, "\xc3\xa9"sv, "\xf0\x9f\x98\x80"sv}) {
        for (const std::size_t n : {199U, 200U}) {
            EXPECT_TRUE(talk("add " + times(letter, n)).starts_with("added: ")) << n;
            EXPECT_TRUE(talk("edit ID " + times(letter, n)).starts_with("edited: ")) << n;
        }
        for (const std::size_t n : {999U, 1000U})
            EXPECT_TRUE(talk("describe ID " + times(letter, n)).starts_with("described: ")) << n;
        EXPECT_NE(talk("add " + times(letter, 201)).find("at most 200 characters"), std::string::npos);
        EXPECT_NE(talk("edit ID " + times(letter, 201)).find("at most 200 characters"), std::string::npos);
        EXPECT_NE(talk("describe ID " + times(letter, 1001)).find("at most 1000 characters"), std::string::npos);
    }
    EXPECT_EQ(talk.server.tasks.list().size(), 7U);
}

TEST(Lines, RefuseTheThousandAndFirstTask) {
    Talk talk;
    for (int i = 2; i < 1000; ++i) talk.server.tasks.add({.id = {}, .title = "t", .description = {}});
    EXPECT_TRUE(talk("add the last").starts_with("added: "));
    EXPECT_TRUE(talk("add one more").starts_with("error: there are 1000 tasks"));
    EXPECT_TRUE(talk("list").starts_with("tasks: 1000\n"));
    EXPECT_TRUE(talk("delete ID").starts_with("deleted: "));
    EXPECT_TRUE(talk("add one more").starts_with("added: "));
}

TEST(Lines, ReportAnUnavailableDatabase) {
    Options options = test_options();
    options.db = "/nonexistent/tasks.db";
    Server server(options);
    Client client(server);
    for (const char* line : {"list\n", "add x\n", "show 1\n", "done 1\n"})
        EXPECT_TRUE(client.send(line).take().starts_with("error: ")) << line;
    EXPECT_EQ(client.send("count\n").take(), "count: 4\n") << "what needs no tasks still works";
}

// --- what is a line -----------------------------------------------------------------------------------------------------

TEST(Lines, EndInLfOrCrLf) {
    Server server;
    EXPECT_EQ(ask(server, "1\n2\r\n3\n"), "fib: 1\nfib: 1\nfib: 2\n");
    EXPECT_EQ(ask(server, "\n\r\n \n\t\r\n4\n\n"), "fib: 3\n") << "empty ones are ignored";
    EXPECT_TRUE(ask(server, "1\r2\r\n").starts_with("error: ")) << "a lone CR ends nothing";
}

TEST(Lines, MayHave8192Bytes) {
    Server server;
    for (const char* ending : {"\n", "\r\n"}) {
        for (const std::size_t size : {8191U, 8192U}) {
            const std::string name(size - 6, 'x');
            EXPECT_EQ(ask(server, "hello " + name + ending + "1" + ending), "hello: " + name + "\nfib: 1\n");
            EXPECT_EQ(ask(server, std::string(size - 2, ' ') + "10" + ending), "fib: 55\n");
        }
        for (const std::size_t size : {8193U, 8194U, 20'000U, 70'000U}) {
            for (const char letter : {'x', ' ', '\r', '\0'}) {
                const std::string line(size, letter);
                const std::string reply = ask(server, "1\n" + line + "\r" + ending + "10" + ending);
                EXPECT_EQ(reply, "fib: 1\nerror: a line may have at most 8192 bytes\nfib: 55\n")
                    << size << " times " << letter;
            }
        }
    }
}

TEST(Lines, ThatAreTooLongGetOneErrorAtOnce) {
    Server server;
    Client client(server);
    EXPECT_EQ(client.send(std::string(8192, 'x')).take(), "");
    EXPECT_EQ(client.send("x").take(), "error: a line may have at most 8192 bytes\n");
    EXPECT_TRUE(client.session.unfinished());
    EXPECT_EQ(client.send(std::string(100'000, 'y')).take(), "");
    EXPECT_EQ(client.send("add never\r").take(), "");
    EXPECT_EQ(client.send("\n10\n").take(), "fib: 55\n");
    EXPECT_FALSE(client.session.unfinished());
    EXPECT_EQ(server.answered, 2U);
}
