/// How the fuzzer and the replay check the server's promises.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/text.hpp"

namespace fuzz {

/// The fuzzer does not catch it, so libFuzzer keeps the input. In the replay, it is the failure's text.
struct Broken : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throws Broken if the promise is not kept. `seen`: what the message shows, up to 400 bytes of it.
inline void require(bool kept, std::string_view promise, std::string_view seen = {}) {
    if (!kept) throw Broken(fmt::format("not kept: {}: {}", promise, printable(seen.substr(0, 400))));
}

/// Throws Broken if the two differ. The message shows from where on.
inline void require_same(std::string_view one, std::string_view other, std::string_view promise) {
    if (one == other) return;
    const auto same = std::mismatch(one.begin(), one.end(), other.begin(), other.end()).first - one.begin();
    const auto from = static_cast<std::size_t>(std::max(same - 40, std::ptrdiff_t{0}));
    throw Broken(fmt::format("not kept: {}: from byte {} on:\n    {}\n    {}", promise, from,
                             printable(one.substr(from, 200)), printable(other.substr(from, 200))));
}

}  // namespace fuzz
