/// HTTP/1.1 messages (RFC 9112), without a socket: bytes in, requests out; replies in, bytes out.
///
/// llhttp, the parser of Node, reads them. What it lets pass and a careful server must not, two views of one stream above
/// all (request smuggling), is refused here.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "work.hpp"

inline constexpr std::size_t head_limit = 16'384;  ///< request line and header fields, bytes
inline constexpr std::size_t body_limit = 65'536;  ///< bytes, chunked coding removed

struct HttpRequest {
    std::string method;        ///< GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS or TRACE
    std::string target;        ///< as it was sent
    std::string host;          ///< the Host field's value; empty where HTTP/1.0 sent none
    std::string content_type;  ///< the field's value
    std::string body;
    std::string forwarded;  ///< the value of X-Forwarded-For: whom a proxy in front says to speak for
    bool http_1_0 = false;
    bool keep_alive = false;  ///< as the client wishes
};

/// Reads one request. The bytes may be cut anywhere; the outcome does not depend on where.
class HttpReader {
   public:
    HttpReader();
    HttpReader(const HttpReader&) = delete;  // the parser points back at it
    HttpReader& operator=(const HttpReader&) = delete;

    /// Takes bytes up to the end of the message, or to what is wrong with it, and says how many.
    std::size_t feed(std::string_view bytes);

    /// The message is complete, or faulty: nothing more will be taken.
    [[nodiscard]] bool done() const noexcept { return state_.complete || state_.fault != 0; }

    /// The status to refuse it with: the rest of the stream can't be told apart from a next request then, so the
    /// connection must be closed. 0: no fault.
    [[nodiscard]] int fault() const noexcept { return state_.fault; }
    /// In words.
    [[nodiscard]] const char* fault_text() const noexcept { return state_.fault_text; }

    /// Refuses the message for a reason that is not in its bytes: it comes no further.
    void give_up(int status, const char* text) noexcept { refuse(status, text); }

    /// True once, when the client waits for a `100 Continue` before it sends the body (RFC 9110, 10.1.1).
    bool take_continue() noexcept { return std::exchange(state_.wants_continue, false); }

    HttpRequest& request() noexcept { return request_; }

    /// For the next message: all is as in a new reader, which would have to ask for its memory again.
    void begin_again();

   private:
    friend struct HttpEvents;
    /// What there is to be known of one message but its texts.
    struct State {
        std::size_t overhead = 0;       // bytes since the last one of the body: chunk headers, trailers
        const char* checked = nullptr;  // up to here, in the bytes being fed
        char before = 0;                // the last byte that was checked
        int hosts = 0;
        int codings = 0;
        int fault = 0;
        const char* fault_text = "";
        bool in_head = true;
        bool complete = false;
        bool close = false;  // Connection: close
        bool keep = false;   // Connection: keep-alive
        bool expects = false;
        bool wants_continue = false;
    };
    void refuse(int status, const char* text) noexcept;
    void method_ends();
    void method_fault(const char* where) noexcept;
    void field_ends();
    void head_ends();
    void check_head();
    void check_line_ends(const char* to) noexcept;

    llhttp_t parser_{};
    HttpRequest request_;
    std::string head_;  // as it came
    std::string name_;  // of the header field being read
    std::string value_;
    std::string coding_;  // the value of Transfer-Encoding
    State state_;
};

/// How the client of a request wants it answered.
struct HttpAnswer {
    bool head = false;      ///< to HEAD: the same header fields and no body
    bool http_1_0 = false;  ///< keep-alive must be said
    bool close = false;     ///< it is the connection's last
};

/// Appends a response to `out`.
void http_response(std::string& out, const Reply& reply, const HttpAnswer& answer, std::string_view server_name);

/// Whether a first line is HTTP's: it ends in ` HTTP/` and a version.
bool is_request_line(std::string_view line) noexcept;

/// Whether it begins like one, with a method in capitals and a blank.
bool begins_with_method(std::string_view line) noexcept;
