#include "protocol/http.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "base/text.hpp"

namespace {

constexpr auto malformed = "the message is malformed";
constexpr auto no_such_method = "no such method";

// A tab is a blank like any other (RFC 9110, 5.6.3), but llhttp takes none after a length or a coding. So in a head it gets
// this instead of each tab.
constexpr std::string_view for_a_tab = " ";

constexpr std::string_view token_extras = "!#$%&'*+-.^_`|~";  // RFC 9110, 5.6.2: besides letters and digits

bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) noexcept { return is_upper(c) || (c >= 'a' && c <= 'z') || is_digit(c); }
bool is_token(char c) noexcept { return is_alphanumeric(c) || token_extras.find(c) != token_extras.npos; }

/// The methods of RFC 9110 and 5789 except CONNECT, which asks for a proxy.
bool known(std::string_view method) noexcept {
    constexpr std::array<std::string_view, 8> methods = {"GET",    "HEAD",  "POST",    "PUT",
                                                         "DELETE", "PATCH", "OPTIONS", "TRACE"};
    return std::find(methods.begin(), methods.end(), method) != methods.end();
}

}  // namespace

/// llhttp calls these while it reads.
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
        reader(parser).value_.append(at == for_a_tab.data() ? "\t" : at, length);
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
    constexpr std::size_t worth_keeping = 1024;  // bytes; a large message's memory is not kept for small ones
    llhttp_reset(&parser_);
    request_.http_1_0 = request_.keep_alive = false;
    for (std::string* const text : {&request_.method, &request_.target, &request_.host, &request_.content_type,
                                    &request_.body, &request_.forwarded, &head_, &name_, &value_, &coding_})
        text->capacity() > worth_keeping ? std::string().swap(*text) : text->clear();
    state_ = {};
}

void HttpReader::refuse(int status, const char* text) noexcept {
    if (state_.fault != 0) return;  // the first fault is the cause
    state_.fault = status;
    state_.fault_text = text;
}

std::size_t HttpReader::feed(std::string_view bytes) {
    const char* at = bytes.data();
    const char* const end = at + bytes.size();
    while (at < end && !done()) {
        const std::string_view piece = next_piece({at, end});
        state_.checked = at;
        const llhttp_errno_t result = llhttp_execute(&parser_, piece.data(), piece.size());
        const char* const stopped = at + (result == HPE_OK ? static_cast<std::ptrdiff_t>(piece.size())
                                                           : llhttp_get_error_pos(&parser_) - piece.data());
        check_line_ends(stopped);
        if (state_.in_head) head_.append(at, stopped);
        state_.in_request_line = head_.find('\r') == head_.npos;
        check_size();
        if (result == HPE_PAUSED) {
            llhttp_resume(&parser_);
            if (state_.in_head) head_ends();
        } else if (result == HPE_INVALID_METHOD) {
            method_fault(stopped < end ? stopped : nullptr);
        } else if (result == HPE_INVALID_VERSION && (head_.ends_with(" HTTP/1.1") || head_.ends_with(" HTTP/1.0"))) {
            refuse(400, "the request line does not end after the version");
        } else if (result == HPE_INVALID_VERSION || result == HPE_PAUSED_H2_UPGRADE) {
            refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
        } else if (result != HPE_OK) {
            refuse(400, llhttp_get_error_reason(&parser_));
        }
        at = stopped;
    }
    return static_cast<std::size_t>(at - bytes.data());
}

/// The part of the received bytes that llhttp reads next.
std::string_view HttpReader::next_piece(std::string_view bytes) const noexcept {
    // One byte over a limit is enough. More could hold a second fault, and the cut would decide which counts.
    const std::size_t limit = state_.in_request_line ? request_line_limit : head_limit;
    bytes = bytes.substr(0, limit + 1 - (state_.in_head ? head_.size() : state_.overhead));
    if (!state_.in_head) return bytes;
    return bytes.front() == '\t' ? for_a_tab : bytes.substr(0, bytes.find('\t'));
}

/// All but the body is lines that end in CR LF. A lone CR or LF ends a line for some programs and not for others (RFC 9112,
/// 2.2), and llhttp accepts some. After the head, no line may begin with a blank, which would continue the line before.
void HttpReader::check_line_ends(const char* to) noexcept {
    char before = state_.before;
    for (const char c : std::string_view(state_.checked, to)) {
        const bool folded = before == '\n' && !state_.in_head && (c == ' ' || c == '\t');
        if ((before == '\r') != (c == '\n') || folded) refuse(400, malformed);
        before = c;
    }
    state_.before = before;
    state_.overhead += static_cast<std::size_t>(to - state_.checked);
    state_.checked = to;
}

void HttpReader::check_size() noexcept {
    if (state_.in_request_line && head_.size() > request_line_limit)
        refuse(414, "the request line is longer than 8 KiB");
    else if (state_.in_head && head_.size() > head_limit)
        refuse(431, "the request's head is longer than 16 KiB");
    else if (!state_.in_head && state_.overhead > head_limit)
        refuse(431, "chunk headers or trailers are too long");
}

void HttpReader::method_ends() {
    request_.method = llhttp_method_name(static_cast<llhttp_method_t>(parser_.method));
    // PRI begins HTTP/2, which llhttp reports a few bytes later.
    if (!known(request_.method) && parser_.method != HTTP_PRI) refuse(501, no_such_method);
}

/// llhttp stops at the first byte that fits no method it knows. 501 if it can still be a method's name, otherwise 400.
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
        // A trailer: ignored.
    } else if (equal_ignoring_case(name_, "host")) {
        ++state_.hosts;
        request_.host = host_in(value).value_or("");
    } else if (equal_ignoring_case(name_, "content-type")) {
        ++state_.types;
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
        // llhttp overlooks a `close` after other options.
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
    // A message without a body ends here, and llhttp reports it without another byte.
    const llhttp_errno_t result = llhttp_execute(&parser_, "", 0);
    if (result == HPE_PAUSED)
        llhttp_resume(&parser_);
    else if (result != HPE_OK)
        refuse(400, llhttp_get_error_reason(&parser_));
}

void HttpReader::check_head() {
    if (!request_line_is_exact())
        return refuse(400, "a request line is a method, a target and HTTP's version, with one blank between them");
    if (parser_.http_major != 1 || parser_.http_minor > 1) return refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
    // A line that begins with a blank continues the one before (obs-fold; RFC 9112, 5.2). Others may read it differently.
    if (head_.find("\n ") != head_.npos || head_.find("\n\t") != head_.npos) return refuse(400, "a header field is folded");
    if (state_.hosts > 1 || (state_.hosts == 0 && !request_.http_1_0)) return refuse(400, "one Host field is required");
    if (state_.hosts > 0 && request_.host.empty()) return refuse(400, "the Host field names no host");
    if (state_.types > 1) return refuse(400, "there is more than one Content-Type field");
    if (state_.codings > 0 && request_.http_1_0) return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    if (state_.codings > 0 && (state_.codings > 1 || !equal_ignoring_case(coding_, "chunked")))
        return refuse(501, "chunked is the only transfer coding known here");
    // llhttp must have read the same.
    if (state_.codings > 0 && (parser_.flags & F_CHUNKED) == 0) return refuse(400, malformed);
    if (parser_.content_length > body_limit) return refuse(413, "the body is longer than 64 KiB");
}

/// Whether the request line is its method, target and version, with one blank between them and nothing else (RFC 9112, 3).
bool HttpReader::request_line_is_exact() const noexcept {
    constexpr std::string_view version = " HTTP/1.1";
    const std::string_view line = std::string_view(head_).substr(0, head_.find('\r'));
    return line.size() == request_.method.size() + 1 + request_.target.size() + version.size() &&
           line.find(" HTTP/") != line.npos && line.find('\t') == line.npos;
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
        case 414: return "URI Too Long";
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

/// The time now, in the Date field's form (RFC 9110, 6.6.1). Formatted once a second.
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
    append(out, "HTTP/1.1 ", std::to_string(reply.status), " ", reason(reply.status), "\r\nDate: ", date(),
           "\r\nX-Served-By: ", server_name, " pid=", std::to_string(this_process()),
           " thread=", std::to_string(reply.thread), "\r\n");
    out += reply.fields;
    const bool says_what_it_is = reply.fields.starts_with("Content-Type: ");
    if (!reply.body.empty() && !says_what_it_is) out += "Content-Type: application/json\r\n";
    if (reply.status != 204) append(out, "Content-Length: ", std::to_string(reply.body.size()), "\r\n");
    if (answer.close)
        out += "Connection: close\r\n";
    else if (answer.http_1_0)
        out += "Connection: keep-alive\r\n";
    out += "\r\n";
    if (!answer.head) out += reply.body;
}

// --- hosts --------------------------------------------------------------------------------------------------------------

namespace {

bool is_port(std::string_view text) noexcept { return text.empty() || parse_whole(text).value_or(65'536) <= 65'535; }

/// What a reg-name (RFC 3986, 3.2.2) may contain besides letters and digits, except the comma, which would make it a list.
constexpr std::string_view name_extras = "-._~!$&'()*+;=";
bool is_name(std::string_view text) noexcept {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return is_alphanumeric(c) || name_extras.find(c) != name_extras.npos;
    });
}

bool is_ipv6(std::string_view text) noexcept {
    std::array<char, INET6_ADDRSTRLEN> name{};
    if (text.size() >= name.size()) return false;
    in6_addr address{};
    std::copy(text.begin(), text.end(), name.begin());
    return inet_pton(AF_INET6, name.data(), &address) == 1;
}

}  // namespace

std::optional<std::string_view> host_in(std::string_view text) noexcept {
    const auto colon = text.find(':', text.starts_with('[') ? text.find(']') : 0);
    const std::string_view host = text.substr(0, colon);
    if (colon != text.npos && !is_port(text.substr(colon + 1))) return {};
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    if (bracketed ? !is_ipv6(host.substr(1, host.size() - 2)) : !is_name(host)) return {};
    return host;
}

// --- HTTP or the line protocol? ----------------------------------------------------------------------------------------

namespace {

bool is_version(std::string_view word) noexcept {
    constexpr std::string_view mark = "HTTP/";
    if (!word.starts_with(mark) || word.size() == mark.size() || !is_digit(word[mark.size()])) return false;
    return std::all_of(word.begin() + mark.size(), word.end(), [](char c) { return is_digit(c) || c == '.'; });
}

}  // namespace

bool is_request_line(std::string_view line) noexcept {
    const auto blank = line.rfind(' ');
    return blank != line.npos && is_version(line.substr(blank + 1));
}

bool begins_with_method(std::string_view line) noexcept {
    const auto blank = line.find(' ');
    return blank != line.npos && blank > 0 && std::all_of(line.begin(), line.begin() + static_cast<long>(blank), is_upper);
}

bool is_whole_request_line(std::string_view line) noexcept {
    constexpr auto blanks = " \t";
    const auto last = line.find_last_of(blanks);
    if (last == line.npos || !is_version(line.substr(last + 1))) return false;
    const std::string_view method = line.substr(0, line.find_first_of(blanks));
    const std::string_view target = trimmed(line.substr(method.size(), last - method.size()));
    return !target.empty() && target.find_first_of(blanks) == target.npos && !method.empty() &&
           std::all_of(method.begin(), method.end(), is_upper);
}
