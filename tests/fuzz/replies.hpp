/// Checks what replies look like, to the letter, with other code than that which writes them.
#pragma once

#include <array>
#include <charconv>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "../unit/conversation.hpp"
#include "promise.hpp"
#include "protocol/page.hpp"

namespace fuzz {

// --- text ---------------------------------------------------------------------------------------------------------------

inline bool consists_of(std::string_view text, std::string_view characters) {
    return !text.empty() && text.find_first_not_of(characters) == text.npos;
}

inline bool is_number(std::string_view text) {
    return consists_of(text, "0123456789") && (text.size() == 1 || text.front() != '0');
}

/// Whether a terminal may show it: UTF-8 without control characters.
inline bool is_plain(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const auto after = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
        if (c < 0x20 || c == 0x7F || (c == 0xC2 && after < 0xA0)) return false;
    }
    return nlohmann::json::accept('"' + replaced(replaced(std::string(text), "\\", "\\\\"), "\"", "\\\"") + '"');
}

/// Takes the next line and its ending off the text. Returns the line.
inline std::string_view take_line(std::string_view& text, std::string_view ending) {
    const auto end = text.find(ending);
    require(end != text.npos, "each line that is said has its ending", text);
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + ending.size());
    return line;
}

// --- lines --------------------------------------------------------------------------------------------------------------

/// `dba481c1 buy milk`
inline bool is_brief(std::string_view text) {
    return text.size() > 9 && consists_of(text.substr(0, 8), "0123456789abcdef") && text[8] == ' ';
}

/// The lines after a reply's first one must be as many as its value says, each of the right shape.
inline void check_further_lines(std::string_view name, std::string_view value, std::string_view rest) {
    constexpr std::array members = {"id: ", "title: ", "description: ", "done: "};
    std::size_t lines = 0;
    for (; !rest.empty(); ++lines) {
        const std::string_view line = take_line(rest, "\n");
        require(is_plain(line), "a line is UTF-8 without control characters", line);
        if (name == "tasks")
            require((line.starts_with("[ ] ") || line.starts_with("[x] ")) && is_brief(line.substr(4)), "a task's line",
                    line);
        else if (name == "task")
            require(lines < members.size() && line.starts_with(members.at(lines)), "a task's members", line);
    }
    const bool counted = name == "tasks" || name == "task" || name == "commands";
    require(lines == 0 || counted, "one line is enough", name);
    require(!counted || value == std::to_string(lines), "as many lines follow as the first one says", value);
}

/// One reply in the line protocol, without its last LF.
inline void check_line_reply(const std::string& reply) {
    if (reply == "bye:") return;
    const std::string text = reply + '\n';
    std::string_view rest = text;
    const std::string_view line = take_line(rest, "\n");
    const auto colon = std::min(line.find(": "), line.size());
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = line.substr(std::min(colon + 2, line.size()));
    require(is_plain(line) && !value.empty(), "a reply is a name, a colon, a blank and a value", line);
    if (name == "fib" || name == "count" || name == "tasks" || name == "task" || name == "commands")
        require(is_number(value), "the value is a number", line);
    else if (name == "added" || name == "edited" || name == "described" || name == "done" || name == "undone" ||
             name == "deleted")
        require(is_brief(value), "the value is an id and a text", line);
    else
        require(name == "slept" || name == "hello" || name == "error", "the name is one of those promised", line);
    check_further_lines(name, value, rest);
}

/// The words of a line, which blanks separate.
inline std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    for (;;) {
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        if (line.empty()) return words;
        words.push_back(line.substr(0, line.find_first_of(" \t")));
        line.remove_prefix(words.back().size());
    }
}

inline bool is_capital(std::string_view word) { return consists_of(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"); }

/// Whether a line is of another protocol, and so must be the conversation's last one.
inline bool is_foreign(std::string_view line, bool first) {
    const bool whole = line.size() <= 8192;
    if (first) {
        std::size_t size = std::min<std::size_t>(line.size(), 8192);
        while (!whole && size > 8189 && (static_cast<unsigned char>(line[size]) & 0xC0) == 0x80) --size;
        return line.starts_with("PROXY ") || !is_plain(replaced(std::string(line.substr(0, size)), "\t", " "));
    }
    const auto words = words_of(line);
    if (words.empty() || !is_capital(words.front())) return false;
    if (!whole) return line.find(words.front()) == 0 && line.substr(words.front().size()).starts_with(' ');
    return words.size() == 3 && words.back().starts_with("HTTP/") && words.back().substr(5, 1) != "." &&
           consists_of(words.back().substr(5), "0123456789.");
}

/// How many replies these lines must get. The last line may be unterminated.
inline std::size_t replies_wanted(std::string_view lines) {
    std::size_t wanted = 0;
    while (!lines.empty()) {
        std::string_view line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        const auto words = words_of(line);
        if (words.empty() && line.size() <= 8192) continue;
        ++wanted;
        if (is_foreign(line, wanted == 1) || (line.size() <= 8192 && words.size() == 1 && words[0] == "quit")) break;
    }
    return wanted;
}

inline void check_lines(std::string_view said, const std::vector<Reply>& replies) {
    std::string expected;
    for (const Reply& reply : replies) {
        check_line_reply(reply.body);
        expected += reply.body + '\n';
        require(!reply.hang_up || &reply == &replies.back(), "bye: is the last word", reply.body);
    }
    require_same(said, expected, "the replies are said, in their order, and nothing else");
}

// --- HTTP ---------------------------------------------------------------------------------------------------------------

struct Response {
    std::string_view status;  ///< with its reason
    std::map<std::string_view, std::string_view> fields;

    [[nodiscard]] bool has(std::string_view name) const { return fields.contains(name); }
    [[nodiscard]] std::string_view operator[](std::string_view name) const { return has(name) ? fields.at(name) : ""; }
};

/// Takes the next response's head off the text.
inline Response take_head(std::string_view& said) {
    constexpr std::array statuses = {"100 Continue",
                                     "200 OK",
                                     "201 Created",
                                     "204 No Content",
                                     "400 Bad Request",
                                     "404 Not Found",
                                     "405 Method Not Allowed",
                                     "408 Request Timeout",
                                     "413 Content Too Large",
                                     "414 URI Too Long",
                                     "415 Unsupported Media Type",
                                     "421 Misdirected Request",
                                     "431 Request Header Fields Too Large",
                                     "501 Not Implemented",
                                     "505 HTTP Version Not Supported",
                                     "507 Insufficient Storage"};
    constexpr std::array names = {"Date",       "X-Served-By", "Content-Type", "Content-Length",
                                  "Connection", "Location",    "Allow",        "Content-Security-Policy"};
    const std::string_view line = take_line(said, "\r\n");
    Response response{.status = line.substr(std::min<std::size_t>(9, line.size())), .fields = {}};
    const bool known = std::find(statuses.begin(), statuses.end(), response.status) != statuses.end();
    require(known && line.starts_with("HTTP/1.1 "), "a response begins with its status", line);
    for (std::string_view field = take_line(said, "\r\n"); !field.empty(); field = take_line(said, "\r\n")) {
        const auto colon = std::min(field.find(": "), field.size());
        const std::string_view value = field.substr(std::min(colon + 2, field.size()));
        require(is_plain(field) && !value.empty() && value == trimmed(value), "a field is a name and a value", field);
        const bool first = response.fields.emplace(field.substr(0, colon), value).second;
        const bool ours = std::find(names.begin(), names.end(), field.substr(0, colon)) != names.end();
        require(first && ours, "a field is one of those promised, once", field);
    }
    return response;
}

inline void check_head(const Response& response) {
    const auto is = [&](std::string_view status) { return response.status.starts_with(status); };
    std::tm date{};
    const std::string text(response["Date"]);
    const char* const end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date);
    require(end && *end == '\0' && text.size() == 29, "the date is a date", text);
    require(response["X-Served-By"] == fmt::format("stage0_test pid={} thread={}", getpid(), gettid()),
            "it says who served it", response["X-Served-By"]);
    require(response.has("Content-Length") != is("204"), "a response says its length, where it may have one",
            response.status);
    require(response.has("Content-Type") != is("204"), "a response says its type, where it may have one", response.status);
    require(response.has("Location") == is("201"), "201 says where the new task is", response.status);
    require(response.has("Allow") ? is("405") || is("204") : !is("405"), "405 and OPTIONS say what is allowed",
            response.status);
    const std::string_view connection = response["Connection"];
    require(connection.empty() || connection == "close" || connection == "keep-alive", "Connection says close or keep-alive",
            connection);
}

inline void check_body(const Response& response, const std::string& body) {
    require(response["Content-Length"] == std::to_string(body.size()), "the length is that of the body",
            response["Content-Length"]);
    if (response["Content-Type"] == "text/plain; charset=utf-8") return require(is_plain(body), "text is UTF-8", body);
    if (response["Content-Type"] == "text/html; charset=utf-8") return require(body == page(), "HTML is the page", body);
    require(response["Content-Type"] == "application/json", "the type is one of three", response["Content-Type"]);
    const auto json = nlohmann::json::parse(body, nullptr, false);
    require(!json.is_discarded(), "JSON is JSON", body);
    const bool error = response.status >= "400";
    require(error == (json.is_object() && json.size() == 1 && json.contains("error")), "only errors name an error", body);
}

/// The head of an HTTP conversation's first request, as far as it is there, up to the end of its last field. Empty lines
/// before it are left out.
inline std::string_view first_head(std::string_view asked) {
    while (asked.find('\n') != asked.npos && asked.substr(0, asked.find('\n')).find_first_not_of(" \t\r") == asked.npos)
        asked.remove_prefix(asked.find('\n') + 1);
    asked.remove_prefix(std::min(asked.find_first_not_of("\r\n"), asked.size()));
    const auto end = asked.find("\r\n\r\n");
    return end == asked.npos ? asked : asked.substr(0, end + 2);
}

/// Whether two servers may read it differently, one of them as two requests (RFC 9112, 2.2, 5 and 6.3; request smuggling).
inline bool is_ambiguous(std::string_view head) {
    std::size_t hosts = 0;
    std::size_t types = 0;
    std::size_t framings = 0;
    for (bool first = true; !head.empty(); first = false) {
        const auto end = std::min(head.find("\r\n"), head.size());
        const std::string_view line = head.substr(0, end);
        head.remove_prefix(std::min(end + 2, head.size()));
        if (line.find_first_of("\r\n") != line.npos) return true;
        if (first && (std::count(line.begin(), line.end(), ' ') != 2 || line.find('\t') != line.npos)) return true;
        if (first) continue;
        const std::string_view name = line.substr(0, line.find(':'));
        if (name.empty() || name == line || name.find_first_of(" \t") != name.npos) return true;
        if (equal_ignoring_case(name, "host")) ++hosts;
        if (equal_ignoring_case(name, "content-type")) ++types;
        if (equal_ignoring_case(name, "content-length") || equal_ignoring_case(name, "transfer-encoding")) ++framings;
    }
    return hosts > 1 || types > 1 || framings > 1;
}

/// Checks the responses. Returns whether the last one said that it is the last. `asked`: what the client sent.
inline bool check_http(std::string_view said, const std::vector<Reply>& replies, std::string_view asked) {
    bool closing = false;
    auto reply = replies.begin();
    while (!said.empty()) {
        require(!closing, "after Connection: close nothing is said", said);
        const Response response = take_head(said);
        if (response.status == "100 Continue") {
            require(response.fields.empty(), "100 Continue has no fields", response.status);
            continue;
        }
        check_head(response);
        require(reply != replies.end(), "there are no more responses than replies", response.status);
        require(response.status.starts_with(std::to_string(reply->status)), "the status is the reply's", response.status);
        if (!response.status.starts_with("204")) check_body(response, reply->body);
        const bool whole = said.starts_with(reply->body);  // no body begins like a response
        require(whole || asked.find("HEAD") != asked.npos, "the body is there, except for HEAD", said);
        if (whole) said.remove_prefix(reply->body.size());
        closing = response["Connection"] == "close";
        ++reply;
    }
    require(reply == replies.end(), "there is a response for each reply", said);
    return closing;
}

}  // namespace fuzz
