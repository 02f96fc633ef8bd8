/// The HTTP API: what each method and path stand for.
#pragma once

#include "base/service.hpp"
#include "protocol/http.hpp"

/// The work that a well-formed request asks for, or an error reply. Thread-safe. Keeps no reference to the request, but
/// `service` must outlive the work.
Work api_work(const HttpRequest& request, const Service& service);

/// An error as JSON: {"error": "…"}.
Reply http_error(int status, std::string_view text);
