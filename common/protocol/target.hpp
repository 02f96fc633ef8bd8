/// An HTTP request's target, taken apart (RFC 9112, 3.2), and the names that this server answers to.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/options.hpp"

/// Refers to the text that it was made from, which must outlive it.
struct Target {
    std::string_view host;   ///< the name or address in an absolute target; else empty
    std::string path;        ///< decoded; `*`: the server as a whole; empty: an encoded slash, so no route
    std::string_view query;  ///< as sent
    bool secure = false;     ///< an absolute target that wants TLS

    // For routes whose last segment may be anything: the path up to its last slash, and what follows that.
    [[nodiscard]] std::string_view parent() const { return std::string_view(path).substr(0, path.rfind('/') + 1); }
    [[nodiscard]] std::string_view last() const { return std::string_view(path).substr(path.rfind('/') + 1); }
};

/// Takes a request's target apart. Nothing if it is malformed.
std::optional<Target> parse_target(std::string_view method, std::string_view text);

/// A parameter of a query, decoded as forms encode (a plus is a blank). Nothing if it is missing or malformed.
std::optional<std::string> parameter(std::string_view query, std::string_view name);

/// Whether `host` is localhost, any IP address, --host's value or an --allow-host's. If the name of a page elsewhere
/// suddenly resolves to this machine (DNS rebinding), the page can make a browser send requests here, but only under that
/// name. So unknown names are refused.
bool is_allowed(std::string_view host, const Options& options);
