/// What the fuzzer and the replay call when a server's promise is broken.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

#include "text.hpp"

namespace fuzz {

/// Nobody catches it in the fuzzer, which then keeps the input; in the replay it is the failure's text.
struct Broken : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void require(bool kept, std::string_view promise, std::string_view seen = {}) {
    if (!kept) throw Broken(fmt::format("not kept: {}: {}", promise, printable(seen.substr(0, 400))));
}

/// The message shows where the two begin to differ.
inline void require_same(std::string_view one, std::string_view other, std::string_view promise) {
    if (one == other) return;
    const auto same = std::mismatch(one.begin(), one.end(), other.begin(), other.end()).first - one.begin();
    const auto from = static_cast<std::size_t>(std::max(same - 40, std::ptrdiff_t{0}));
    throw Broken(fmt::format("not kept: {}: from byte {} on:\n    {}\n    {}", promise, from,
                             printable(one.substr(from, 200)), printable(other.substr(from, 200))));
}

}  // namespace fuzz
