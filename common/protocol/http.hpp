/// HTTP/1.1 messages (RFC 9112), without a socket: bytes in, requests out; replies in, bytes out.
///
/// llhttp, Node's parser, reads them. It accepts some messages that a careful server must refuse, above all those that two
/// programs may read differently (request smuggling). They are refused here.
///
/// Only llhttp checks chunk extensions. It does not follow RFC 9112, 7.1.1, to the letter and does not tell us what it read.
/// It accepts an empty name or value (`5;=x`, `5;a=`), and refuses the blanks that may stand around `;` and `=`. Version 8.1
/// also refuses a quoted pair, and a second extension after a value without quotes (`5;a=b;c`). None of this changes a
/// length.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/work.hpp"

inline constexpr std::size_t request_line_limit = 8192;  ///< bytes, its CR LF not counted
inline constexpr std::size_t head_limit = 16'384;        ///< bytes of the request line and header fields
inline constexpr std::size_t body_limit = 65'536;        ///< bytes, without chunked coding

struct HttpRequest {
    std::string method;        ///< GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS or TRACE
    std::string target;        ///< as it was sent
    std::string host;          ///< the name or address in the Host field; empty if HTTP/1.0 sent none
    std::string content_type;  ///< the field's value
    std::string body;
    std::string forwarded;  ///< the value of X-Forwarded-For: the client, as a proxy in front says
    bool http_1_0 = false;
    bool keep_alive = false;  ///< as the client asks
};

/// Reads one request. The bytes may be cut anywhere; the outcome does not depend on where.
class HttpReader {
   public:
    HttpReader();
    HttpReader(const HttpReader&) = delete;  // the parser points back to it
    HttpReader& operator=(const HttpReader&) = delete;

    /// Takes bytes up to the end of the message, or up to a fault in it. Returns how many.
    std::size_t feed(std::string_view bytes);

    /// Whether the message is complete, or faulty. Then feed() takes no more.
    [[nodiscard]] bool done() const noexcept { return state_.complete || state_.fault != 0; }

    /// The status to refuse it with; 0: no fault. After a fault, the rest of the message cannot be told apart from the next
    /// request, so the connection must be closed.
    [[nodiscard]] int fault() const noexcept { return state_.fault; }
    /// The fault in words.
    [[nodiscard]] const char* fault_text() const noexcept { return state_.fault_text; }

    /// Refuses the message for a reason that feed() cannot see, such as a time-out. `text` is kept, not copied.
    void give_up(int status, const char* text) noexcept { refuse(status, text); }

    /// True once, when the client waits for a `100 Continue` before it sends the body (RFC 9110, 10.1.1).
    bool take_continue() noexcept { return std::exchange(state_.wants_continue, false); }

    HttpRequest& request() noexcept { return request_; }

    /// Makes the reader like new, for the next message, but keeps small buffers.
    void begin_again();

   private:
    friend struct HttpEvents;
    /// All that is known about one message, except its texts.
    struct State {
        std::size_t overhead = 0;       // bytes since the last one of the body: chunk headers, trailers
        const char* checked = nullptr;  // end of what was checked, in the bytes being fed
        char before = 0;                // the last byte that was checked
        int hosts = 0;
        int types = 0;  // Content-Type
        int codings = 0;
        int fault = 0;
        const char* fault_text = "";
        bool in_request_line = true;
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
    [[nodiscard]] bool request_line_is_exact() const noexcept;
    [[nodiscard]] std::string_view next_piece(std::string_view bytes) const noexcept;
    void check_line_ends(const char* to) noexcept;
    void check_size() noexcept;

    llhttp_t parser_{};
    HttpRequest request_;
    std::string head_;  // as received
    std::string name_;  // of the header field being read
    std::string value_;
    std::string coding_;  // the value of Transfer-Encoding
    State state_;
};

/// How a request is to be answered.
struct HttpAnswer {
    bool head = false;      ///< to HEAD: the same header fields and no body
    bool http_1_0 = false;  ///< to HTTP/1.0, which must be told if the connection stays open
    bool close = false;     ///< the response is the connection's last
};

/// Appends a response to `out`. A body is JSON, unless the reply's fields begin with a Content-Type. X-Served-By shows
/// `server_name`.
void http_response(std::string& out, const Reply& reply, const HttpAnswer& answer, std::string_view server_name);

/// The name or address in a Host field's value, or in a target's authority, without the port (RFC 9110, 7.2; RFC 3986,
/// 3.2.2). An IPv6 address keeps its brackets. Nothing if there is anything else in it, such as userinfo, a path or a second
/// host, or if the port is past 65535. Percent-encoding is refused, too: no name in the DNS needs it.
std::optional<std::string_view> host_in(std::string_view text) noexcept;

/// Whether a first line is HTTP's: it ends in ` HTTP/` and a version.
bool is_request_line(std::string_view line) noexcept;

/// Whether a line begins like a request line, with a method in capitals and a blank.
bool begins_with_method(std::string_view line) noexcept;

/// Whether a line is a complete request line: a method in capitals, a target, and `HTTP/` with a version.
bool is_whole_request_line(std::string_view line) noexcept;
