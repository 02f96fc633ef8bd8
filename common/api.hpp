/// The HTTP API: the table of what may be asked for.
#pragma once

#include "http.hpp"
#include "service.hpp"

/// What a well-formed request asks for; an error reply where it asks for nothing there is. Thread-safe; keeps no
/// reference to the request.
Work api_work(const HttpRequest& request, const Service& service);

/// An error as JSON: {"error": "…"}.
Reply http_error(int status, std::string_view text);
