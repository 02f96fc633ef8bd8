#include "protocol/target.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/text.hpp"
#include "protocol/http.hpp"

namespace {

/// The text without percent-encoding (RFC 3986, 2.1); nothing if that is malformed or does not give UTF-8.
std::optional<std::string> decoded(std::string_view text) {
    std::string plain(text.substr(0, text.find('%')));
    for (std::size_t i = plain.size(); i < text.size(); ++i) {
        auto byte = static_cast<unsigned char>(text[i]);
        if (text[i] == '%') {
            const std::string_view digits = text.substr(i + 1, 2);
            const char* const end = digits.data() + digits.size();
            if (digits.size() < 2 || std::from_chars(digits.data(), end, byte, 16).ptr != end) return {};
            i += 2;
        }
        plain += static_cast<char>(byte);
    }
    if (!is_utf8(plain)) return {};
    return plain;
}

/// Characters that no part of a URI may have. Only paths are checked, because browsers do not encode all of them in a query.
bool is_in_no_path(char c) noexcept {
    return c == '"' || c == '<' || c == '>' || c == '\\' || c == '^' || c == '`' || (c >= '{' && c <= '}');
}

bool is_ipv4(std::string_view name) {
    in_addr address{};
    return inet_pton(AF_INET, std::string(name).c_str(), &address) == 1;
}

}  // namespace

std::optional<Target> parse_target(std::string_view method, std::string_view text) {
    Target target;
    if (method == "OPTIONS" && text == "*") {
        target.path = text;
        return target;
    }
    if (const auto scheme = text.find("://"); scheme != text.npos && text.front() != '/') {
        target.secure = equal_ignoring_case(text.substr(0, scheme), "https");
        if (!target.secure && !equal_ignoring_case(text.substr(0, scheme), "http")) return {};
        text.remove_prefix(scheme + 3);
        const auto path = std::min(text.find_first_of("/?"), text.size());
        target.host = host_in(text.substr(0, path)).value_or("");
        text.remove_prefix(path);
        if (target.host.empty()) return {};
    } else if (text.empty() || text.front() != '/') {
        return {};
    }
    if (text.find('#') != text.npos) return {};
    const auto query = std::min(text.find('?'), text.size());
    if (query < text.size()) target.query = text.substr(query + 1);
    const std::string_view path = query == 0 ? "/" : text.substr(0, query);
    if (std::any_of(path.begin(), path.end(), is_in_no_path)) return {};
    auto plain = decoded(path);
    if (!plain || plain->find('\0') != plain->npos) return {};
    target.path = std::move(*plain);
    // An encoded slash is not a separator (RFC 3986, 2.2), and no name here contains one, so such a path leads nowhere.
    if (path.find("%2F") != path.npos || path.find("%2f") != path.npos) target.path = "";
    return target;
}

std::optional<std::string> parameter(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        const auto end = std::min(query.find('&'), query.size());
        std::string pair(query.substr(0, end));
        query.remove_prefix(std::min(end + 1, query.size()));
        std::replace(pair.begin(), pair.end(), '+', ' ');
        const auto equals = pair.find('=');
        if (equals != pair.npos && decoded(pair.substr(0, equals)) == name) return decoded(pair.substr(equals + 1));
    }
    return {};
}

bool is_allowed(std::string_view host, const Options& options) {
    if (host.starts_with('[')) return true;          // an IPv6 address
    if (host.ends_with('.')) host.remove_suffix(1);  // the DNS root: the same name, written out
    const auto is = [host](std::string_view name) { return equal_ignoring_case(name, host); };
    return is("localhost") || is_ipv4(host) || is(options.host) ||
           std::any_of(options.allowed_hosts.begin(), options.allowed_hosts.end(),
                       [&](const std::string& name) { return name == "*" || is(name); });
}
