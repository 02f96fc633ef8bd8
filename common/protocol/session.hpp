/// One client's conversation, without a socket: bytes in, work out; replies in, bytes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/log.hpp"
#include "base/service.hpp"
#include "protocol/http.hpp"
#include "protocol/work.hpp"

/// What a session needs next. Every stage contains these four cases. The stages differ in what they do when one of them
/// cannot go on at once.
enum class Next : std::uint8_t {
    read,   ///< receive the client's bytes and call received(), or received_end() at its end
    write,  ///< send output(), and call sent() with how much was sent
    work,   ///< call work(), have it carried out, and give the outcome to reply()
    close   ///< close the connection
};

/// Memory that the sessions of one thread lend each other. Mostly a request arrives whole and its reply leaves at once, so a
/// session needs memory only for a moment, and an idle one keeps none.
struct Spare {
    std::string input = {};                   ///< empty, but with capacity
    std::string output = {};                  ///< the same
    std::unique_ptr<HttpReader> reader = {};  ///< used before, and ready to be used again
};

/// A queue of bytes: put in at one end, taken out at the other. While it is empty, it keeps no memory.
class Bytes {
   public:
    [[nodiscard]] std::string_view view() const noexcept { return std::string_view(text_).substr(taken_); }
    [[nodiscard]] bool empty() const noexcept { return taken_ == text_.size(); }
    /// The text to append to. If it is empty, it borrows the spare text's memory.
    std::string& more(std::string& spare);
    /// Takes `size` bytes out. After the last one, the memory goes back to the spare text, unless it is large.
    void take(std::size_t size, std::string& spare);

   private:
    std::string text_;
    std::size_t taken_ = 0;
};

/// A session knows no descriptor, no thread and no time-out (the idea of h11: a protocol without I/O). So it is tested
/// without a network, and six servers share it to the letter. Only HTTP's Date field and, with --verbose, the log look at a
/// clock. The first line that is not empty decides which protocol is spoken. If it belongs to neither, such as TLS, it gets
/// one error and the end.
///
/// One request is in progress at a time, and replies go out in the order of the requests. Many small replies leave in one
/// write: next() says `write` only when no request is left to answer, or 64 KiB are waiting. It never says `read` while
/// output waits, so a client that sends without reading fills its own buffers, not the server's (back-pressure).
///
/// For one thread at a time. Whatever a client does, it throws nothing but std::bad_alloc.
class Session {
   public:
    /// `service` and `spare` must outlive the session. `peer` is the client's address, for the log.
    Session(const Service& service, Spare& spare, std::string peer = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// What is needed next. Calling it twice in a row gives the same answer. Do not call it between work() and reply().
    [[nodiscard]] Next next();

    /// Takes bytes from the client, once or several times after next() said `read`. They are copied.
    void received(std::string_view bytes);
    /// The client sends no more (it has half-closed). A last line without an ending counts. Half an HTTP message gets a 400.
    void received_end();
    /// The server is stopping and reads no more. Complete requests are answered. An incomplete one is dropped, because a
    /// truncated line must not be taken for a last one.
    void stop();
    /// The connection is lost. next() says `close` from now on.
    void abandon();
    /// The client has used up its time, in `read` or in `write`. An HTTP request that has begun gets a 408,
    /// unless output waits. In any other case, the same as abandon().
    void time_out();

    /// The bytes to send, when next() said `write`. Valid until sent() or next().
    [[nodiscard]] std::string_view output() const noexcept { return out_.view(); }
    void sent(std::size_t size) { out_.take(size, spare_.output); }
    /// Whether the session has ended the conversation, and the last reply has been sent. Then the caller should shut down
    /// the sending side. next() goes on saying `read` until the client's end comes, because closing over unread bytes would
    /// reset the connection, and the client could lose the last reply (RFC 9112, 9.6). The caller decides how long to wait.
    [[nodiscard]] bool said_all() const noexcept { return closing_ && out_.empty(); }
    /// When next() said `close`: whether the client can send no more. If it can, what it sends after the close resets the
    /// connection, and replies that have not reached the client by then are lost.
    [[nodiscard]] bool over() const noexcept { return lost_ || heard_end_; }

    /// The next request's work, when next() said `work`.
    [[nodiscard]] Work work();
    /// The outcome of that work.
    void reply(const Reply& reply);

    /// Whether any request has been answered, even if the reply is not sent yet.
    [[nodiscard]] bool answered() const noexcept { return answered_; }

    /// When next() said `read`: whether a part of a request is here, and the rest is missing.
    [[nodiscard]] bool unfinished() const;

   private:
    enum class Speaks : std::uint8_t { unknown, lines, http };
    enum class Found : std::uint8_t { none, line, long_line, message };

    void consume(std::size_t size) { in_.take(size, spare_.input); }
    bool find_request();
    bool find_line();
    bool find_message();
    Work line();
    Work message();

    const Service& service_;
    Spare& spare_;
    Bytes in_;
    Bytes out_;
    std::string_view line_;                   // the next request, in in_; set while found_ is line or long_line
    std::size_t line_size_ = 0;               // with its ending
    const char* line_fault_ = nullptr;        // why this line is the last one
    std::unique_ptr<HttpReader> http_;        // while a message is being read
    std::unique_ptr<logging::Requests> log_;  // with --verbose
    HttpAnswer answer_;
    Speaks speaks_ = Speaks::unknown;
    Found found_ = Found::none;
    bool answered_ = false;
    bool discarding_ = false;  // the rest of a line that was too long
    bool ended_ = false;       // no more input will come
    bool heard_end_ = false;   // because the client said so
    bool stopping_ = false;
    bool closing_ = false;  // no further request is answered
    bool lost_ = false;
};

/// Bytes. While this much output waits to be written, no further request is answered.
inline constexpr std::size_t output_high_water = 65'536;
