#include "http.hpp"

#include <fmt/compile.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "text.hpp"

namespace {

constexpr auto malformed = "the message is malformed";
constexpr auto no_such_method = "no such method";

constexpr std::string_view token_extras = "!#$%&'*+-.^_`|~";  // RFC 9110, 5.6.2: besides letters and digits

bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_token(char c) noexcept {
    return is_upper(c) || (c >= 'a' && c <= 'z') || is_digit(c) || token_extras.find(c) != token_extras.npos;
}

/// The methods of RFC 9110 and 5789 but for CONNECT, which asks for a proxy.
bool known(std::string_view method) noexcept {
    constexpr std::array<std::string_view, 8> methods = {"GET",    "HEAD",  "POST",    "PUT",
                                                         "DELETE", "PATCH", "OPTIONS", "TRACE"};
    return std::find(methods.begin(), methods.end(), method) != methods.end();
}

}  // namespace

/// What llhttp calls while it reads.
struct HttpEvents {
    static HttpReader& reader(llhttp_t* parser) { return *static_cast<HttpReader*>(parser->data); }

    static int on_method_complete(llhttp_t* parser) {
        reader(parser).method_ends();
        return reader(parser).state_.fault == 0 ? 0 : HPE_USER;
    }
    static int on_url(llhttp_t* parser, const char* at, size_t length) {
        reader(parser).request_.target.append(at, length);
        return 0;
    }
    static int on_header_field(llhttp_t* parser, const char* at, size_t length) {
        reader(parser).name_.append(at, length);
        return 0;
    }
    static int on_header_value(llhttp_t* parser, const char* at, size_t length) {
        reader(parser).value_.append(at, length);
        return 0;
    }
    static int on_header_value_complete(llhttp_t* parser) {
        reader(parser).field_ends();
        return 0;
    }
    // The two pauses make llhttp_execute() return, so that feed() learns where in the bytes it happened.
    static int on_headers_complete(llhttp_t*) { return HPE_PAUSED; }
    static int on_body(llhttp_t* parser, const char* at, size_t length) {
        HttpReader& self = reader(parser);
        self.check_line_ends(at);
        self.state_.overhead = 0;
        self.state_.checked = at + length;
        if (self.request_.body.size() + length > body_limit) {
            self.refuse(413, "the body is longer than 64 KiB");
            return HPE_USER;
        }
        self.request_.body.append(at, length);
        return 0;
    }
    static int on_message_complete(llhttp_t* parser) {
        reader(parser).state_.complete = true;
        return HPE_PAUSED;
    }

    static const llhttp_settings_t* settings() {
        static const llhttp_settings_t table = [] {
            llhttp_settings_t events;
            llhttp_settings_init(&events);
            events.on_method_complete = on_method_complete;
            events.on_url = on_url;
            events.on_header_field = on_header_field;
            events.on_header_value = on_header_value;
            events.on_header_value_complete = on_header_value_complete;
            events.on_headers_complete = on_headers_complete;
            events.on_body = on_body;
            events.on_message_complete = on_message_complete;
            return events;
        }();
        return &table;
    }
};

HttpReader::HttpReader() {
    llhttp_init(&parser_, HTTP_REQUEST, HttpEvents::settings());
    parser_.data = this;
}

void HttpReader::begin_again() {
    constexpr std::size_t worth_keeping = 1024;  // bytes; more would be a message's memory, kept for others that are small
    llhttp_reset(&parser_);
    request_.http_1_0 = request_.keep_alive = false;
    for (std::string* const text : {&request_.method, &request_.target, &request_.host, &request_.content_type,
                                    &request_.body, &request_.forwarded, &head_, &name_, &value_, &coding_})
        text->capacity() > worth_keeping ? std::string().swap(*text) : text->clear();
    state_ = {};
}

void HttpReader::refuse(int status, const char* text) noexcept {
    if (state_.fault != 0) return;  // the first one is the cause
    state_.fault = status;
    state_.fault_text = text;
}

std::size_t HttpReader::feed(std::string_view bytes) {
    const char* at = bytes.data();
    const char* const end = at + bytes.size();
    while (at < end && !done()) {
        // One byte over a limit is enough to know; more could hold a second fault, and the cut would decide which counts.
        const std::size_t room = head_limit + 1 - (state_.in_head ? head_.size() : state_.overhead);
        const std::size_t size = std::min(static_cast<std::size_t>(end - at), room);
        state_.checked = at;
        const llhttp_errno_t result = llhttp_execute(&parser_, at, size);
        const char* const stopped = result == HPE_OK ? at + size : llhttp_get_error_pos(&parser_);
        check_line_ends(stopped);
        if (state_.in_head) head_.append(at, stopped);
        if ((state_.in_head ? head_.size() : state_.overhead) > head_limit)
            refuse(431,
                   state_.in_head ? "the request's head is longer than 16 KiB" : "chunk headers or trailers are too long");
        if (result == HPE_PAUSED) {
            llhttp_resume(&parser_);
            if (state_.in_head) head_ends();
        } else if (result == HPE_INVALID_METHOD) {
            method_fault(stopped < end ? stopped : nullptr);
        } else if (result == HPE_INVALID_VERSION || result == HPE_PAUSED_H2_UPGRADE) {
            refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
        } else if (result != HPE_OK) {
            refuse(400, llhttp_get_error_reason(&parser_));
        }
        at = stopped;
    }
    return static_cast<std::size_t>(at - bytes.data());
}

/// What is not the body is lines that end in CR LF. A lone CR or LF ends a line for some and not for others (RFC 9112, 2.2);
/// llhttp takes some of them.
void HttpReader::check_line_ends(const char* to) noexcept {
    for (; state_.checked < to; ++state_.checked) {
        if ((state_.before == '\r') != (*state_.checked == '\n')) refuse(400, malformed);
        state_.before = *state_.checked;
        ++state_.overhead;
    }
}

void HttpReader::method_ends() {
    request_.method = llhttp_method_name(static_cast<llhttp_method_t>(parser_.method));
    // PRI begins HTTP/2, and llhttp says so a few bytes on.
    if (!known(request_.method) && parser_.method != HTTP_PRI) refuse(501, no_such_method);
}

/// llhttp stops at the first byte that fits no method it knows: is it a method all the same?
void HttpReader::method_fault(const char* where) noexcept {
    if (where && (is_token(*where) || (*where == ' ' && !head_.empty())))
        refuse(501, no_such_method);
    else
        refuse(400, "the request line does not begin with a method");
}

void HttpReader::field_ends() {
    if (name_.empty()) refuse(400, malformed);
    const std::string_view value = trimmed(value_);
    if (!state_.in_head) {
        // A trailer: read past.
    } else if (equal_ignoring_case(name_, "host")) {
        ++state_.hosts;
        request_.host = value;
    } else if (equal_ignoring_case(name_, "content-type")) {
        request_.content_type = value;
    } else if (equal_ignoring_case(name_, "x-forwarded-for")) {
        if (!request_.forwarded.empty()) request_.forwarded += ", ";  // several fields are one list (RFC 9110, 5.3)
        request_.forwarded += value;
    } else if (equal_ignoring_case(name_, "expect")) {
        state_.expects = equal_ignoring_case(value, "100-continue");
    } else if (equal_ignoring_case(name_, "transfer-encoding")) {
        ++state_.codings;
        coding_ = value;
    } else if (equal_ignoring_case(name_, "connection")) {
        // llhttp overlooks a `close` behind other options.
        for (std::string_view rest = value; !rest.empty();) {
            const auto comma = std::min(rest.find(','), rest.size());
            const std::string_view option = trimmed(rest.substr(0, comma));
            state_.close = state_.close || equal_ignoring_case(option, "close");
            state_.keep = state_.keep || equal_ignoring_case(option, "keep-alive");
            rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
    }
    name_.clear();
    value_.clear();
}

void HttpReader::head_ends() {
    state_.in_head = false;
    request_.http_1_0 = parser_.http_minor == 0;
    request_.keep_alive = !state_.close && (state_.keep || !request_.http_1_0);
    check_head();
    state_.overhead = 0;
    if (state_.fault != 0) return;
    state_.wants_continue = state_.expects && !request_.http_1_0 && (state_.codings > 0 || parser_.content_length > 0);
    // A message without a body ends here, and llhttp says so without another byte.
    const llhttp_errno_t result = llhttp_execute(&parser_, "", 0);
    if (result == HPE_PAUSED)
        llhttp_resume(&parser_);
    else if (result != HPE_OK)
        refuse(400, llhttp_get_error_reason(&parser_));
}

void HttpReader::check_head() {
    const std::string_view line = std::string_view(head_).substr(0, head_.find('\r'));
    if (line.find(" HTTP/") == line.npos) return refuse(400, "the request line does not end in HTTP's version");
    if (parser_.http_major != 1 || parser_.http_minor > 1) return refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
    // A line that begins with a blank continues the one before (obs-fold; RFC 9112, 5.2): others might not read it so.
    if (head_.find("\n ") != head_.npos || head_.find("\n\t") != head_.npos) return refuse(400, "a header field is folded");
    if (state_.hosts > 1 || (state_.hosts == 0 && !request_.http_1_0)) return refuse(400, "one Host field is wanted");
    if (state_.codings > 0 && request_.http_1_0) return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    if (state_.codings > 0 && (state_.codings > 1 || !equal_ignoring_case(coding_, "chunked")))
        return refuse(501, "chunked is the only transfer coding known here");
    // llhttp must have read it so, too.
    if (state_.codings > 0 && (parser_.flags & F_CHUNKED) == 0) return refuse(400, malformed);
    if (parser_.content_length > body_limit) return refuse(413, "the body is longer than 64 KiB");
}

// --- responses -------------------------------------------------------------------------------------------------------

namespace {

std::string_view reason(int status) noexcept {
    switch (status) {
        case 200: return "OK";
        case 201: return "Created";
        case 204: return "No Content";
        case 400: return "Bad Request";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 408: return "Request Timeout";
        case 413: return "Content Too Large";
        case 415: return "Unsupported Media Type";
        case 421: return "Misdirected Request";
        case 431: return "Request Header Fields Too Large";
        case 501: return "Not Implemented";
        case 503: return "Service Unavailable";
        case 505: return "HTTP Version Not Supported";
        case 507: return "Insufficient Storage";
        default: return "";
    }
}

/// Now, as the Date field has it (RFC 9110, 6.6.1); written once a second.
std::string_view date() {
    thread_local std::time_t written = 0;
    thread_local char text[] = "Sun, 06 Nov 1994 08:49:37 GMT";
    const std::time_t now = std::time(nullptr);
    if (now != written) {
        std::tm utc{};
        gmtime_r(&now, &utc);
        std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
        written = now;
    }
    return {text, sizeof text - 1};
}

}  // namespace

void http_response(std::string& out, const Reply& reply, const HttpAnswer& answer, std::string_view server_name) {
    const auto to = std::back_inserter(out);
    fmt::format_to(to, FMT_COMPILE("HTTP/1.1 {} {}\r\nDate: {}\r\nX-Served-By: {} pid={} thread={}\r\n"), reply.status,
                   reason(reply.status), date(), server_name, this_process(), reply.thread);
    if (!reply.field.empty()) fmt::format_to(to, FMT_COMPILE("{}\r\n"), reply.field);
    if (reply.type) fmt::format_to(to, FMT_COMPILE("Content-Type: {}\r\n"), reply.type);
    if (reply.status != 204) fmt::format_to(to, FMT_COMPILE("Content-Length: {}\r\n"), reply.body.size());
    if (answer.close)
        out += "Connection: close\r\n";
    else if (answer.http_1_0)
        out += "Connection: keep-alive\r\n";
    out += "\r\n";
    if (!answer.head) out += reply.body;
}

// --- told apart from lines ---------------------------------------------------------------------------------------------

bool is_request_line(std::string_view line) noexcept {
    constexpr std::string_view mark = " HTTP/";
    const auto found = line.rfind(mark);
    if (found == line.npos) return false;
    const std::string_view version = line.substr(found + mark.size());
    return !version.empty() && is_digit(version.front()) &&
           std::all_of(version.begin(), version.end(), [](char c) { return is_digit(c) || c == '.'; });
}

bool begins_with_method(std::string_view line) noexcept {
    const auto blank = line.find(' ');
    return blank != line.npos && blank > 0 && std::all_of(line.begin(), line.begin() + static_cast<long>(blank), is_upper);
}
