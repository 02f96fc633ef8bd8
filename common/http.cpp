#include "http.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "text.hpp"

namespace {

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

    static int on_url(llhttp_t* parser, const char* at, size_t length) {
        reader(parser).request_.target.append(at, length);
        return 0;
    }
    static int on_header_field(llhttp_t* parser, const char* at, size_t length) {
        if (reader(parser).in_head_) reader(parser).name_.append(at, length);  // trailers are read past
        return 0;
    }
    static int on_header_value(llhttp_t* parser, const char* at, size_t length) {
        if (reader(parser).in_head_) reader(parser).value_.append(at, length);
        return 0;
    }
    static int on_header_value_complete(llhttp_t* parser) {
        if (reader(parser).in_head_) reader(parser).field_ends();
        return 0;
    }
    // The two pauses make llhttp_execute() return, so that feed() learns where in the bytes it happened.
    static int on_headers_complete(llhttp_t* parser) {
        parser->upgrade = 0;  // an offer (RFC 9110, 7.8) that is not taken up; llhttp would stop reading
        return HPE_PAUSED;
    }
    static int on_body(llhttp_t* parser, const char* at, size_t length) {
        HttpReader& self = reader(parser);
        self.overhead_ = 0;
        self.counted_ = at + length;
        if (self.request_.body.size() + length > body_limit) {
            self.refuse(413, "the body is longer than 64 KiB");
            return HPE_USER;
        }
        self.request_.body.append(at, length);
        return 0;
    }
    static int on_message_complete(llhttp_t* parser) {
        reader(parser).complete_ = true;
        return HPE_PAUSED;
    }

    static const llhttp_settings_t* settings() {
        static const llhttp_settings_t table = [] {
            llhttp_settings_t events;
            llhttp_settings_init(&events);
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

void HttpReader::refuse(int status, const char* text) noexcept {
    if (fault_ != 0) return;  // the first one is the cause
    fault_ = status;
    fault_text_ = text;
}

std::size_t HttpReader::feed(std::string_view bytes) {
    const char* at = bytes.data();
    const char* const end = at + bytes.size();
    do {
        // One byte over the limit is enough to know; more could hold a second fault, and the cut would decide which counts.
        const std::size_t room = head_limit + 1 - (in_head_ ? head_.size() : overhead_);
        const std::size_t size = std::min(static_cast<std::size_t>(end - at), room);
        counted_ = at;
        const llhttp_errno_t result = llhttp_execute(&parser_, at, size);
        const char* const stopped = result == HPE_OK ? at + size : llhttp_get_error_pos(&parser_);
        if (in_head_)
            head_.append(at, stopped);
        else if (fault_ == 0 && !complete_ && (overhead_ += static_cast<std::size_t>(stopped - counted_)) > head_limit)
            refuse(431, "chunk headers or trailers are longer than 16 KiB");
        at = stopped;
        if (result == HPE_PAUSED) {
            llhttp_resume(&parser_);
            if (in_head_) head_ends();
        } else if (result == HPE_INVALID_METHOD) {
            method_fault({head_.data(), head_.size()}, stopped < end ? stopped : nullptr);
        } else if (result == HPE_INVALID_VERSION || result == HPE_PAUSED_H2_UPGRADE) {
            refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
        } else if (result != HPE_OK) {
            refuse(400, llhttp_get_error_reason(&parser_));
        }
        if (in_head_ && head_.size() > head_limit) refuse(431, "the request's head is longer than 16 KiB");
    } while (at < end && !done());
    return static_cast<std::size_t>(at - bytes.data());
}

/// llhttp stops at the first byte that fits no method it knows: is it a method all the same?
void HttpReader::method_fault(std::string_view before, const char* where) noexcept {
    const bool method = where && (is_token(*where) || (*where == ' ' && !before.empty()));
    if (method)
        refuse(501, "no such method");
    else
        refuse(400, "the request line does not begin with a method");
}

void HttpReader::field_ends() {
    if (equal_ignoring_case(name_, "host")) {
        ++hosts_;
        request_.host = value_;
    } else if (equal_ignoring_case(name_, "content-type")) {
        request_.content_type = value_;
    } else if (equal_ignoring_case(name_, "expect")) {
        continue_ = equal_ignoring_case(value_, "100-continue");
    } else if (equal_ignoring_case(name_, "transfer-encoding")) {
        if (!coding_.empty()) coding_ += ", ";
        coding_ += value_;
    } else if (name_.empty()) {
        refuse(400, "a header field has no name");
    }
    name_.clear();
    value_.clear();
}

void HttpReader::head_ends() {
    in_head_ = false;
    request_.method = llhttp_method_name(static_cast<llhttp_method_t>(parser_.method));
    request_.http_1_0 = parser_.http_minor == 0;
    request_.keep_alive = llhttp_should_keep_alive(&parser_) != 0;
    check_head();
    head_ = {};
    const bool has_body = !coding_.empty() || parser_.content_length > 0;
    continue_ = continue_ && fault_ == 0 && has_body && !request_.http_1_0;
    // A message without a body ends here, and llhttp says so without another byte.
    if (fault_ == 0 && llhttp_execute(&parser_, nullptr, 0) == HPE_PAUSED) llhttp_resume(&parser_);
}

void HttpReader::check_head() {
    const std::string_view line = std::string_view(head_).substr(0, head_.find_first_of("\r\n"));
    if (!known(request_.method)) return refuse(501, "no such method");
    if (line.find(" HTTP/") == line.npos) return refuse(400, "the request line does not end in HTTP's version");
    if (parser_.http_major != 1 || parser_.http_minor > 1) return refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
    // A line that begins with a blank continues the one before (obs-fold; RFC 9112, 5.2): others might not read it so.
    if (head_.find("\n ") != head_.npos || head_.find("\n\t") != head_.npos) return refuse(400, "a header field is folded");
    // A lone CR ends a line for some and not for others (RFC 9112, 2.2).
    for (auto cr = head_.find('\r'); cr != head_.npos; cr = head_.find('\r', cr + 1))
        if (head_[cr + 1] != '\n') return refuse(400, "a CR without LF");
    if (hosts_ > 1 || (hosts_ == 0 && !request_.http_1_0)) return refuse(400, "one Host field is wanted");
    if (!coding_.empty() && request_.http_1_0) return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    if (!coding_.empty() && !equal_ignoring_case(trimmed(coding_), "chunked"))
        return refuse(501, "chunked is the only transfer coding known here");
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
    fmt::format_to(to, "HTTP/1.1 {} {}\r\nDate: {}\r\nX-Served-By: {} pid={} thread={}\r\n", reply.status,
                   reason(reply.status), date(), server_name, this_process(), reply.thread);
    if (!reply.field.empty()) fmt::format_to(to, "{}\r\n", reply.field);
    if (reply.type) fmt::format_to(to, "Content-Type: {}\r\n", reply.type);
    if (reply.status != 204) fmt::format_to(to, "Content-Length: {}\r\n", reply.body.size());
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
