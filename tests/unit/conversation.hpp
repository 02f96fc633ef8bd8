/// A server without a network, and clients that talk to it, for all tests of the core.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fib.hpp"
#include "protocol/session.hpp"
#include "task_list.hpp"

inline Options test_options() {
    Options options;
    options.about = {"stage0_test", "no network at all", {}};
    options.db = ":memory:";
    return options;
}

/// What the clients of one server share. (Its tasks are in memory, where all servers of the process share them.)
struct Server {
    explicit Server(Options options = test_options(), KeepAlive keep = KeepAlive::yes)
        : service(std::move(options), keep), tasks(service.options.db) {}

    Service service;
    Spare spare;
    TaskList tasks;
    std::uint64_t answered = 0;

    /// What is left of the work once the tasks and the count have answered.
    Work asked(Work work) {
        while (auto* const store = std::get_if<Store>(&work)) work = store->answered(tasks.ask(store->query));
        if (auto* const count = std::get_if<Count>(&work)) work = count->say(answered);
        return work;
    }
};

/// One client. It sends piece by piece, and is served at once, as in stage 1.
class Client {
   public:
    explicit Client(Server& server) : session(server.service, server.spare, "127.0.0.1"), server_(server) { serve(); }

    /// Sends one chunk, as recv(2) would give it, in a buffer that is freed before the session goes on.
    Client& send(std::string_view bytes) {
        if (closed || bytes.empty()) return *this;
        EXPECT_EQ(session.next(), Next::read);
        {
            const std::vector<char> piece(bytes.begin(), bytes.end());
            session.received({piece.data(), piece.size()});
        }
        return serve();
    }
    Client& half_close() { return session.received_end(), serve(); }
    Client& stop() { return session.stop(), serve(); }
    Client& time_out() { return session.time_out(), serve(); }

    /// The output since the last take().
    std::string take() { return std::exchange(output, {}); }

    Session session;
    std::string output;
    std::vector<std::chrono::nanoseconds> waits;
    bool closed = false;

   private:
    Client& serve() {
        for (;;) {
            const Next next = session.next();
            EXPECT_EQ(session.next(), next) << "asked twice, next() says something else";
            switch (next) {
                case Next::read: return *this;
                case Next::close: closed = true; return *this;
                case Next::work: answer(); break;
                case Next::write:
                    EXPECT_FALSE(session.output().empty());
                    output += session.output();
                    session.sent(session.output().size());
            }
        }
    }

    void answer() {
        Work work = server_.asked(session.work());
        if (auto* const wait = std::get_if<Wait>(&work)) {
            waits.push_back(wait->duration);
            work = std::move(wait->reply);
        } else if (auto* const compute = std::get_if<Compute>(&work)) {
            work = compute->say(compute->n, fib(compute->n));
        }
        Reply reply = std::get<Reply>(std::move(work));
        if (reply.counted) ++server_.answered;
        session.reply(std::move(reply));
    }

    Server& server_;
};

/// What a new client that sends all this at once is told.
inline std::string ask(Server& server, std::string_view bytes) { return Client(server).send(bytes).take(); }

inline std::string replaced(std::string text, std::string_view what, std::string_view by) {
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + by.size())) text.replace(at, what.size(), by);
    return text;
}

inline std::string times(std::string_view text, std::size_t n) {
    std::string all;
    while (n-- > 0) all += text;
    return all;
}

/// Answers the next request of a session. It must be one that needs no server.
inline void answer(Session& session) {
    ASSERT_EQ(session.next(), Next::work);
    Work work = session.work();
    session.reply(std::holds_alternative<Wait>(work) ? std::get<Wait>(work).reply : std::get<Reply>(work));
}

// --- HTTP ---------------------------------------------------------------------------------------------------------------

/// A request. Each of the `fields` ends in CR LF. A body adds its Content-Length.
inline std::string request(std::string_view line, std::string_view fields = "", std::string_view body = "") {
    std::string text = std::string(line) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields);
    if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return text + "\r\n" + std::string(body);
}

inline std::string json_request(std::string_view line, std::string_view body) {
    return request(line, "Content-Type: application/json\r\n", body);
}

struct Response {
    int status = 0;
    std::string head;
    std::string body;

    /// A field's value, empty if it is missing.
    [[nodiscard]] std::string field(std::string_view name) const {
        const auto at = head.find("\r\n" + std::string(name) + ": ");
        if (at == head.npos) return {};
        const auto begin = at + name.size() + 4;
        return head.substr(begin, head.find("\r\n", begin) - begin);
    }
};

/// Splits an output into responses, by their Content-Length. `heads`: they answer HEAD.
inline std::vector<Response> responses(std::string_view output, bool heads = false) {
    std::vector<Response> all;
    while (!output.empty()) {
        const auto end = output.find("\r\n\r\n");
        if (!output.starts_with("HTTP/1.1 ") || end == output.npos) {
            ADD_FAILURE() << "no response: " << output;
            break;
        }
        Response one{std::stoi(std::string(output.substr(9, 3))), std::string(output.substr(0, end + 2)), {}};
        output.remove_prefix(end + 4);
        const bool bodiless = one.status == 100 || one.status == 204;
        EXPECT_EQ(one.field("Content-Length").empty(), bodiless) << one.head;
        const std::size_t size = bodiless || heads ? 0 : std::stoul("0" + one.field("Content-Length"));
        EXPECT_GE(output.size(), size) << one.head;
        one.body = output.substr(0, size);
        output.remove_prefix(std::min(size, output.size()));
        all.push_back(std::move(one));
    }
    return all;
}

/// The one response to what a new client sends.
inline Response http(Server& server, std::string_view bytes) {
    const auto all = responses(ask(server, bytes));
    EXPECT_EQ(all.size(), 1U) << bytes.substr(0, 400);
    return all.empty() ? Response{} : all.front();
}

// --- however the input is cut --------------------------------------------------------------------------------------------

/// The text with ids of tasks and dates, which differ each time, made the same.
inline std::string masked(std::string text) {
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t run = i;
        while (run < text.size() && (hex(text[run]) || text[run] == '-')) ++run;
        if (run - i == 36 || (run - i == 8 && text.substr(i, 8).find('-') == text.npos)) {
            out += "ID";
            i = run;
        } else if (text.compare(i, 6, "Date: ") == 0) {
            out += "Date";
            i = text.find('\r', i);
        } else {
            run = std::max(run, i + 1);
            out += text.substr(i, run - i);
            i = run;
        }
    }
    return out;
}

enum class End { open, half_close, stop };

/// All that can be seen from outside of a client that sends these pieces.
inline std::string outcome(Server& server, const std::vector<std::string_view>& pieces, End end) {
    server.answered = 0;
    Client client(server);
    for (const auto piece : pieces) client.send(piece);
    if (end == End::half_close) client.half_close();
    if (end == End::stop) client.stop();
    std::string all =
        masked(client.output) + (client.closed ? "[closed]" : "") + (client.session.said_all() ? "[said all]" : "");
    for (const auto wait : client.waits) all += "[waited " + std::to_string(wait.count()) + "]";
    return all;
}

/// Holds the conversation whole, cut in two at every byte (a long one: at many), and byte by byte. `{id}` in the text names
/// a task that is there at the start.
inline void expect_the_same_however_cut(Server& server, const std::string& text, End end) {
    const auto start_over = [&] {
        for (const Task& task : server.tasks.list()) server.tasks.remove(task.id);
        return replaced(text, "{id}", server.tasks.add({.id = {}, .title = "the first", .description = {}}).id.substr(0, 8));
    };
    const bool has_tasks = text.find("{id}") != text.npos || text.find("task") != text.npos || text.find("add") != text.npos;
    const auto input = [&] { return has_tasks ? start_over() : text; };
    const auto shown = [&] { return text.substr(0, 300); };

    std::string said = input();
    const std::string whole = outcome(server, {said}, end);
    const std::size_t size = said.size();
    for (std::size_t cut = 1; cut < size; ++cut) {
        const bool looked_at = size < 3000 || cut < 40 || size - cut < 40 || cut % 4093 == 0 || (cut + 3) % 8192 < 6;
        if (!looked_at) continue;
        said = input();
        const std::string_view all = said;
        ASSERT_EQ(outcome(server, {all.substr(0, cut), all.substr(cut)}, end), whole) << "cut at " << cut << ": " << shown();
    }
    said = input();
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < size; ++i) bytes.push_back(std::string_view(said).substr(i, 1));
    ASSERT_EQ(outcome(server, bytes, end), whole) << "byte by byte: " << shown();
}

/// The same for every way to end it (a long one: for one).
inline void expect_the_same_however_cut(Server& server, const std::string& text) {
    if (text.size() < 3000) {
        expect_the_same_however_cut(server, text, End::open);
        expect_the_same_however_cut(server, text, End::stop);
    }
    expect_the_same_however_cut(server, text, End::half_close);
}
