/// A server without a network, and clients who talk to it: what the tests of the core have in common.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fib.hpp"
#include "session.hpp"
#include "tasks.hpp"

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
    std::array<char, 1024> input;
    Buffers buffers{input};
    Tasks tasks;
    std::uint64_t answered = 0;
};

/// One client: says something piece by piece, and is served at once, in the way of stage 1.
class Client {
   public:
    explicit Client(Server& server) : session(server.service, server.buffers, "127.0.0.1"), server_(server) { serve(); }

    /// One chunk, as recv(2) would give it, in a buffer that lives no longer than the session may look at it.
    Client& send(std::string_view bytes) {
        if (closed || bytes.empty()) return *this;
        EXPECT_EQ(session.next(), Next::read);
        size_ = bytes.size();
        piece_ = std::make_unique<char[]>(size_);
        std::memcpy(piece_.get(), bytes.data(), size_);
        session.received({piece_.get(), size_});
        return serve();
    }
    Client& half_close() { return session.received_end(), serve(); }
    Client& stop() { return session.stop(), serve(); }
    Client& time_out() { return session.time_out(), serve(); }

    /// What was answered since it was last asked.
    std::string take() { return std::exchange(output, {}); }

    Session session;
    std::string output;
    std::vector<std::chrono::nanoseconds> waits;
    bool closed = false;

   private:
    Client& serve() {
        for (;;) {
            const Next next = session.next();
            EXPECT_EQ(session.next(), next) << "asked twice, it said something else";
            if (next != Next::work) forget_piece();
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
        Work work = session.work();
        if (!std::holds_alternative<Reply>(work)) forget_piece();
        Reply reply = std::visit(Overloaded{
                                     [](Reply& known) { return std::move(known); },
                                     [this](Wait& wait) {
                                         waits.push_back(wait.duration);
                                         return std::move(wait.reply);
                                     },
                                     [](Compute& compute) { return compute.say(compute.n, fib(compute.n)); },
                                     [this](Store& store) { return store.run(server_.tasks, server_.answered); },
                                 },
                                 work);
        if (reply.counted) ++server_.answered;
        session.reply(std::move(reply));
    }

    void forget_piece() {
        if (piece_) std::memset(piece_.get(), '!', size_);
        piece_.reset();
    }

    Server& server_;
    std::unique_ptr<char[]> piece_;
    std::size_t size_ = 0;
};

/// What a new client is told who says all this at once.
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

/// Has the next request of a session answered, which needs no server.
inline void answer(Session& session) {
    ASSERT_EQ(session.next(), Next::work);
    Work work = session.work();
    session.reply(std::holds_alternative<Wait>(work) ? std::get<Wait>(work).reply : std::get<Reply>(work));
}

// --- HTTP ---------------------------------------------------------------------------------------------------------------

/// A request; `fields` end in CR LF each. A body brings its Content-Length along.
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

    /// A field's value; empty where it is missing.
    [[nodiscard]] std::string field(std::string_view name) const {
        const auto at = head.find("\r\n" + std::string(name) + ": ");
        if (at == head.npos) return {};
        const auto begin = at + name.size() + 4;
        return head.substr(begin, head.find("\r\n", begin) - begin);
    }
};

/// Takes an output apart, by the Content-Length of each response. `heads`: they answer HEAD.
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

/// The one response to what a new client says.
inline Response http(Server& server, std::string_view bytes) {
    const auto all = responses(ask(server, bytes));
    EXPECT_EQ(all.size(), 1U) << bytes.substr(0, 400);
    return all.empty() ? Response{} : all.front();
}

// --- however the input is cut --------------------------------------------------------------------------------------------

/// What differs each time, made the same: the ids of tasks, and the date.
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

/// Everything that can be told from outside about a client who says these pieces. There is one task at the start; `ID` in
/// the text names it.
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

/// The same conversation whole, in two pieces cut at every byte (of a long one: at many), and byte by byte.
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

/// However it ends, too (a long one: in one way).
inline void expect_the_same_however_cut(Server& server, const std::string& text) {
    if (text.size() < 3000) {
        expect_the_same_however_cut(server, text, End::open);
        expect_the_same_however_cut(server, text, End::stop);
    }
    expect_the_same_however_cut(server, text, End::half_close);
}
