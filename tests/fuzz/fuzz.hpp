/// What the fuzzer does with its bytes, and the replay with its files: it holds one client's conversation in several ways,
/// whose outcome must be the same.
#pragma once

#include <dlfcn.h>
#include <uuid/uuid.h>

#include <optional>
#include <random>

#include "replies.hpp"

namespace fuzz {

/// More than any limit of the protocols.
inline constexpr std::size_t input_limit = 100'000;
/// After this many replies, or bytes of them, the client leaves, because a short input can ask for a long list again and
/// again.
inline constexpr std::size_t reply_limit = 1100;
inline constexpr std::size_t reply_bytes_limit = 1 << 18;
/// A longer input is not tried byte by byte.
inline constexpr std::size_t short_input = 600;

// --- what an input says -------------------------------------------------------------------------------------------------

enum class Cut : std::uint8_t { nowhere, anywhere, everywhere };

enum class Ends : std::uint8_t {
    half_close,  ///< the client sends no more
    stop,        ///< the server is stopping
    time_out,    ///< the client's time is over
    abandon      ///< the connection is lost
};

/// How a conversation goes.
struct Way {
    Framing framing = Framing::line;
    KeepAlive keep_alive = KeepAlive::yes;
    Cut cut = Cut::nowhere;
    unsigned cuts = 1;                ///< with Cut::anywhere: seeds the generator of the cuts
    std::size_t bites = input_limit;  ///< how many bytes of output are taken at a time
    Ends ends = Ends::half_close;
    std::size_t step = std::string::npos;  ///< at which step; at the latest at the input's end
};

/// The way that the words of an input's first line ask for. Only a word's first letter and the number at its end count:
/// `recv` (--framing recv), `once` (a response closes the connection), `cuts7`, `bites3`; `stop12`, `timeout5`, `abandon0`.
/// Unknown words are ignored, because the fuzzer writes here, too.
inline Way way_of(std::string_view words) {
    Way way;
    while (!words.empty()) {
        const std::string_view word = words.substr(0, words.find(' '));
        words.remove_prefix(std::min(word.size() + 1, words.size()));
        const std::string_view digits = word.substr(word.find_last_not_of("0123456789") + 1);
        const auto number = static_cast<unsigned>(parse_whole(digits).value_or(1));
        const auto end = [&](Ends ends) { way.ends = ends, way.step = number; };
        switch (word.empty() ? ' ' : word.front()) {
            case 'r': way.framing = Framing::recv; break;
            case 'o': way.keep_alive = KeepAlive::no; break;
            case 'c': way.cuts = number; break;
            case 'b': way.bites = std::max(number, 1U); break;
            case 's': end(Ends::stop); break;
            case 't': end(Ends::time_out); break;
            case 'a': end(Ends::abandon); break;
            default: break;
        }
    }
    return way;
}

/// The text n times, or as often as fills input_limit.
inline std::string repeated(std::string_view text, std::size_t n) {
    return text.empty() ? "" : times(text, std::min(n, input_limit / text.size() + 1));
}

/// `{text*N}` stands for the text N times, so that a small file reaches a limit.
inline std::string expanded(std::string_view text) {
    std::string all;
    while (!text.empty() && all.size() < input_limit) {
        const auto star = text.find_first_of("*{", 1);
        std::size_t times = 0;
        if (text.front() == '{' && star != text.npos && text[star] == '*') {
            const char* const end = text.data() + text.size();
            const auto number = std::from_chars(text.data() + star + 1, end, times);
            if (number.ec == std::errc() && number.ptr != end && *number.ptr == '}') {
                all += repeated(text.substr(1, star - 1), times);
                text.remove_prefix(static_cast<std::size_t>(number.ptr + 1 - text.data()));
                continue;
            }
        }
        const std::string_view plain = text.substr(0, text.find('{', 1));
        all += plain;
        text.remove_prefix(plain.size());
    }
    return all.substr(0, input_limit);
}

// --- the servers --------------------------------------------------------------------------------------------------------

/// A server for each of the options that an input can ask for. They outlive a conversation, because starting one takes
/// longer than most conversations.
class Servers {
   public:
    /// The server for this way, without tasks and with a count of zero.
    Server& fresh(const Way& way) {
        Server& server = way.framing == Framing::recv ? recv_ : way.keep_alive == KeepAlive::no ? once_ : usual_;
        server.answered = 0;
        const auto tasks = server.tasks.list();
        if (tasks.size() < 20)
            for (const Task& task : tasks) server.tasks.remove(task.id);
        else
            for (Server* each : {&usual_, &once_, &recv_}) each->tasks.close();  // the last close drops the tasks in memory
        return server;
    }

   private:
    static Options recv() {
        Options options = test_options();
        options.framing = Framing::recv;
        return options;
    }

    Server usual_;
    Server once_{test_options(), KeepAlive::no};
    Server recv_{recv()};  // it speaks no HTTP, so keep-alive does not matter
};

// --- the ids of tasks ---------------------------------------------------------------------------------------------------

/// During a conversation here, new tasks get counted ids: 01000000-0000-4000-8000-000000000000, then 02000000… Random ones
/// would differ from one way to the other, and an input could not name a task.
inline std::optional<unsigned> ids_given;

}  // namespace fuzz

/// Replaces libuuid's in a program that includes this header (in one place), and calls it when no conversation is held.
extern "C" void uuid_generate_random(uuid_t id) {
    static const auto original = reinterpret_cast<decltype(&uuid_generate_random)>(dlsym(RTLD_NEXT, "uuid_generate_random"));
    if (!fuzz::ids_given) return original(id);
    const unsigned number = ++*fuzz::ids_given;
    std::memset(id, 0, sizeof(uuid_t));
    id[0] = static_cast<unsigned char>(number);
    id[1] = static_cast<unsigned char>(number >> 8);
    id[6] = 0x40;  // RFC 9562: the version,
    id[8] = 0x80;  // and the variant
}

namespace fuzz {

// --- one conversation ---------------------------------------------------------------------------------------------------

/// All that can be seen of a conversation from outside.
struct Record {
    std::string said;
    std::vector<Reply> replies;
    std::string asked;  ///< a letter for each work: known, wait (and ns), compute (and n), store (and ! to write), #: count
    std::size_t received = 0;  ///< how many bytes of the input
    bool enough = false;       ///< the client left because of a reply limit
    bool all_taken = false;    ///< no output was left at the end
    bool closing = false;      ///< the session had said all, and waited for the client to hang up
};

/// Does what next() says, as a stage would, and checks the session's promises on the way. It always ends or fails: the
/// input and its end are given once, there are no more requests than bytes, and each write takes something.
class Conversation {
   public:
    Conversation(Servers& servers, const Way& way, std::string_view input)
        : way_(way), server_(servers.fresh(way)), session_(server_.service, server_.spare), rest_(input), cuts_(way.cuts) {
        ids_given = 0;
    }
    ~Conversation() { ids_given.reset(); }
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;

    Record hold() {
        for (std::size_t step = 0;; ++step) {
            const Next next = session_.next();
            check(next);
            if (next == Next::close || record_.enough) break;
            const bool now = step >= way_.step && !ended_;
            if (next == Next::read) read(now);
            if (next == Next::write) now ? end() : take();
            if (next == Next::work) answer(now && way_.ends != Ends::time_out);
        }
        if (record_.enough) record_.said += session_.output();
        record_.all_taken = record_.enough || session_.output().empty();
        record_.closing = session_.said_all();
        return std::move(record_);
    }

   private:
    void check(Next next) {
        const std::size_t waiting = session_.output().size();
        require(session_.next() == next, "asked twice, next() says the same");
        require(session_.answered() == !record_.replies.empty(), "answered() says whether a request was answered");
        require(waiting < output_high_water + largest_reply_, "no more output is kept than the mark and one reply");
        require(next != Next::work || waiting < output_high_water, "above the mark, output is written first");
        require(next != Next::read || waiting == 0, "nothing is read while output waits");
        require(next != Next::write || waiting != 0, "there is something to write");
        require(next != Next::close || ended_, "a conversation is not closed before its end");
        require(next == Next::close || !ended_ || way_.ends != Ends::abandon, "a lost connection is closed");
        if (!session_.said_all()) return;
        require(next == Next::read || next == Next::close, "after the last word only the client's end is left");
        require(!session_.unfinished(), "what will not be answered is not kept");
    }

    /// `now`: the conversation is cut short. A server that stops still reads what has arrived (see came() in sockets.cpp).
    void read(bool now) {
        if (ended_) {
            require(way_.ends == Ends::time_out && session_.said_all() && !std::exchange(ended_twice_, true),
                    "after the end nothing is read");
            return session_.time_out();
        }
        const bool over = rest_.empty();
        if (!over && (!now || way_.ends == Ends::stop)) receive();
        if (!over && !now) return;
        end();
    }

    /// Gives the next piece, in a buffer that is freed before the session goes on.
    void receive() {
        const std::size_t size = std::min(piece_size(), rest_.size());
        const std::vector<char> piece(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(size));
        rest_.remove_prefix(size);
        record_.received += size;
        session_.received({piece.data(), size});
    }

    std::size_t piece_size() {
        if (way_.cut == Cut::nowhere) return rest_.size();
        if (way_.cut == Cut::everywhere) return 1;
        constexpr std::array<unsigned, 6> longest = {1, 2, 20, 200, 4096, 16'384};
        const unsigned most = longest.at(cuts_() % longest.size());
        return 1 + cuts_() % most;
    }

    void end() {
        ended_ = true;
        switch (way_.ends) {
            case Ends::half_close: session_.received_end(); break;
            case Ends::stop: session_.stop(); break;
            case Ends::time_out: session_.time_out(); break;
            case Ends::abandon: session_.abandon(); break;
        }
    }

    void take() {
        const std::string_view output = session_.output();
        const std::size_t size = std::min(std::max(way_.bites, output.size() / 64), output.size());
        record_.said += output.substr(0, size);
        session_.sent(size);
    }

    void answer(bool now) {
        Work work = session_.work();
        const Reply reply = carried_out(work);
        if (now) end();
        session_.reply(reply);
        if (now && way_.ends == Ends::abandon) return;
        record_.replies.push_back(reply);
        require(record_.replies.size() <= record_.received, "a request has at least one byte");
        largest_reply_ = std::max(largest_reply_, reply.body.size() + 1024);
        replies_size_ += reply.body.size();
        record_.enough = record_.replies.size() == reply_limit || replies_size_ > reply_bytes_limit;
    }

    /// Carries the work out without waiting, and computes fib the quick way. The tasks are the real ones.
    Reply carried_out(Work& work) {
        if (std::holds_alternative<Reply>(work)) record_.asked += 'k';
        if (std::holds_alternative<Count>(work)) record_.asked += '#';
        while (auto* const store = std::get_if<Store>(&work)) {
            record_.asked += store->query.writes() ? "s!" : "s";
            work = store->answered(server_.tasks.ask(store->query));
        }
        work = server_.asked(std::move(work));
        if (auto* const wait = std::get_if<Wait>(&work)) {
            record_.asked += fmt::format("w{}", wait->duration.count());
            work = std::move(wait->reply);
        } else if (auto* const compute = std::get_if<Compute>(&work)) {
            record_.asked += fmt::format("c{}", compute->n);
            work = compute->say(compute->n, quick_fib(compute->n));
        }
        Reply reply = std::get<Reply>(std::move(work));
        if (reply.counted) ++server_.answered;
        return reply;
    }

    static std::uint64_t quick_fib(int n) {
        std::uint64_t one = 0;
        std::uint64_t next = 1;
        while (n-- > 0) one = std::exchange(next, one + next);
        return one;
    }

    Way way_;
    Server& server_;
    Session session_;
    std::string_view rest_;
    std::minstd_rand cuts_;
    Record record_;
    bool ended_ = false;
    bool ended_twice_ = false;
    std::size_t largest_reply_ = 1024;
    std::size_t replies_size_ = 0;
};

// --- the same in several ways -------------------------------------------------------------------------------------------

/// The text without the header lines that begin with `field`.
inline std::string without(std::string_view field, std::string_view said) {
    std::string rest;
    const std::string line = "\r\n" + std::string(field);
    for (auto found = said.find(line); found != said.npos; found = said.find(line)) {
        rest += said.substr(0, found);
        said.remove_prefix(std::min(said.find("\r\n", found + 2), said.size()));
    }
    return rest += said;
}

/// Each reply must be said, in the form that its protocol wants.
inline void check_replies(const Record& record, std::string_view input) {
    const bool http = record.said.starts_with("HTTP/1.1 ");
    bool last_word = false;
    if (http) {
        last_word = check_http(record.said, record.replies, input);
    } else {
        check_lines(record.said, record.replies);
        last_word = !record.replies.empty() && record.replies.back().hang_up;
    }
    require(record.enough || record.closing == last_word, "a session has said all exactly after its last word");
}

inline void check_whole(const Record& whole, const Way& way, std::string_view input) {
    require(whole.all_taken && (whole.closing || whole.enough || whole.received == input.size()), "all is read and taken");
    check_replies(whole, input);
    if (whole.said.starts_with("HTTP/1.1 ") && is_ambiguous(first_head(input)))
        require(whole.replies.size() == 1 && whole.replies.front().status >= 400 && whole.closing,
                "a request that others may read differently is refused", input);
    const bool lines = !whole.said.starts_with("HTTP/1.1 ") && way.framing == Framing::line;
    if (lines && !whole.enough)
        require(whole.replies.size() == replies_wanted(input), "each line that is not empty is answered");
}

inline void require_alike(const Record& whole, const Record& other, std::string_view promise) {
    require_same(without("Date: ", whole.said), without("Date: ", other.said), promise);
    require_same(whole.asked, other.asked, promise);
    require(whole.closing == other.closing, promise, "the end");
}

/// What is said until a conversation is cut short must be the beginning of what the whole one says.
inline void check_beginning(const Record& some, const Record& whole, std::string_view input) {
    if (some.all_taken) check_replies(some, input);
    std::string_view said = some.said;
    if (!some.replies.empty() && some.replies.back().status == 408)
        said = said.substr(0, said.rfind("HTTP/1.1 408 Request Timeout\r\n"));
    const std::string beginning = without("Date: ", without("Connection: close", said));
    const std::string all = without("Date: ", without("Connection: close", whole.said));
    require_same(beginning, all.substr(0, beginning.size()), "a conversation cut short says the beginning of the whole one");
}

/// A server that stops must answer each complete request that it has received.
inline void check_stopped(Servers& servers, const Record& stopped, Way way, std::string_view input) {
    way.step = std::string::npos;
    if (way.framing == Framing::line) way.cut = Cut::nowhere;
    const Record same = Conversation(servers, way, input.substr(0, stopped.received)).hold();
    require_same(without("Date: ", without("Connection: close", stopped.said)),
                 without("Date: ", without("Connection: close", same.said)),
                 "when a server stops matters only for what it has received");
}

/// Holds the input's conversation in every way. A first line that begins with # chooses the way, see way_of(). The rest is
/// what the client says, see expanded(). Throws Broken.
inline void hold_in_every_way(Servers& servers, std::string_view bytes) {
    const bool told = bytes.starts_with('#');
    const std::string_view words = bytes.substr(0, told ? bytes.find('\n') : 0);
    const Way asked = way_of(words.substr(std::min<std::size_t>(1, words.size())));
    const std::string input = expanded(bytes.substr(std::min(words.size() + (told ? 1 : 0), bytes.size())));

    Way way{.framing = asked.framing, .keep_alive = asked.keep_alive, .cuts = asked.cuts};
    const bool cut_counts = way.framing == Framing::recv;
    if (cut_counts) way.cut = Cut::anywhere;
    const Record whole = Conversation(servers, way, input).hold();
    check_whole(whole, way, input);

    way.cut = Cut::anywhere;
    way.bites = asked.bites;
    require_alike(whole, Conversation(servers, way, input).hold(), "however it is cut and taken, the same is said");
    if (!cut_counts && input.size() <= short_input) {
        way.cut = Cut::everywhere;
        require_alike(whole, Conversation(servers, way, input).hold(), "byte by byte, the same is said");
    }
    if (asked.ends == Ends::half_close) return;
    way = asked;
    way.cut = Cut::anywhere;
    const Record some = Conversation(servers, way, input).hold();
    check_beginning(some, whole, input);
    if (asked.ends == Ends::stop) check_stopped(servers, some, way, input);
}

}  // namespace fuzz
