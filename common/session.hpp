/// One client's conversation, without a socket: bytes in, work out; replies in, bytes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "http.hpp"
#include "log.hpp"
#include "service.hpp"
#include "work.hpp"

/// What a conversation needs next. These four cases stand in every stage; what differs is what a stage does where one of
/// them can't go on at once.
enum class Next : std::uint8_t {
    read,   ///< the client's bytes: give them to received(), or its end to received_end()
    write,  ///< output() to be sent: say with sent() how much went
    work,   ///< take work(), have it carried out, and give the outcome to reply()
    close   ///< nothing: close the connection
};

/// What the conversations of one thread share. Mostly a request comes whole, and its reply leaves at once; so none needs
/// memory of its own for what it uses for a moment, and an idle client keeps none.
struct Buffers {
    std::span<char> input;                    ///< where bytes are received; the memory is the caller's
    std::string output = {};                  ///< has no text, but room for some
    std::unique_ptr<HttpReader> reader = {};  ///< one that was used, and can be again
};

/// A session knows no descriptor, no clock and no thread (the idea of h11: a protocol without I/O). So it is tested without
/// a network, and six servers share it to the letter. The first line that is not empty decides which protocol is spoken.
///
/// One request is in progress at a time, and replies go out in the order of the requests. Many small ones leave in one
/// write: `write` comes only when there is no request left to answer, or 64 KiB are waiting; and nothing is read while
/// output waits, so that a client who sends without reading fills its own buffers and not the server's (back-pressure).
///
/// For one thread at a time. Never throws for anything a client does.
class Session {
   public:
    /// `service` and `buffers` must outlive the session. `peer` is the client's address, for the log.
    Session(const Service& service, Buffers& buffers, std::string peer = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// What is needed next. Asked again without anything done in between, it answers the same.
    [[nodiscard]] Next next();

    /// The thread's buffer, to receive bytes in.
    [[nodiscard]] std::span<char> buffer() const noexcept { return buffers_.input; }
    /// Bytes of the client, when next() said `read`. They are read in place, so they must stay where they are until next()
    /// says something other than `work`, or work() gives anything but a Reply; what is left by then is copied. So a Reply
    /// that work() gives is to be passed to reply() at once, before another conversation uses the same buffer.
    void received(std::string_view bytes);
    /// The client sends no more (it has half-closed). What is unterminated is a last line.
    void received_end();
    /// The server is stopping, and no more will be read (what was received just before is copied): what is complete is
    /// answered, what is not is dropped, for a truncated line must not be taken for a last one.
    void stop();
    /// The connection is lost.
    void abandon();
    /// The client was waited for long enough, in `read` or in `write`.
    void time_out();

    /// What is to be sent, when next() said `write`.
    [[nodiscard]] std::string_view output() const;
    void sent(std::size_t size);
    /// Whether all has been said and sent, and the client only has to take note. The sending side should be shut down
    /// then; next() goes on saying `read` until the client's end comes, as closing over unread bytes would reset the
    /// connection and could lose it the last reply (RFC 9112, 9.6). How long that may take is the caller's affair.
    [[nodiscard]] bool said_all() const;

    /// The next request's work, when next() said `work`.
    [[nodiscard]] Work work();
    /// The outcome of that work.
    void reply(const Reply& reply);

    /// Whether a request has been answered, be it not sent yet.
    [[nodiscard]] bool answered() const noexcept { return answered_; }

    /// Whether half a request is here, whose other half is waited for.
    [[nodiscard]] bool unfinished() const;

   private:
    enum class Speaks : std::uint8_t { unknown, lines, http };
    enum class Ready : std::uint8_t { none, line, long_line, message };

    [[nodiscard]] std::string_view input() const;
    void consume(std::size_t size);
    void keep();
    bool find_request();
    bool find_line();
    bool find_message();
    Work line();
    Work message();

    const Service& service_;
    Buffers& buffers_;
    std::string_view borrowed_;  // input in the caller's buffer
    std::string kept_;           // input of our own, while borrowed_ is empty
    std::size_t taken_ = 0;      // of kept_
    std::string out_;
    std::size_t sent_ = 0;                    // of out_
    std::string_view line_;                   // the next request, in the input; set while ready_ is line
    std::size_t line_size_ = 0;               // with its ending
    std::unique_ptr<HttpReader> http_;        // while a message is being read
    std::unique_ptr<logging::Requests> log_;  // with --verbose
    HttpAnswer answer_;
    Speaks speaks_ = Speaks::unknown;
    Ready ready_ = Ready::none;
    bool answered_ = false;
    bool discarding_ = false;  // the rest of a line that was too long
    bool ended_ = false;       // no more input will come
    bool stopping_ = false;
    bool closing_ = false;  // no further request is answered
    bool lost_ = false;
};

/// So much output may wait before it is written although there are requests left to answer.
inline constexpr std::size_t output_high_water = 65'536;
