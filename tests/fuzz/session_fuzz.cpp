// The target of libFuzzer: `make fuzz`, see README.md.
#include <cstddef>
#include <cstdint>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::Servers servers;
    fuzz::hold_in_every_way(servers, {reinterpret_cast<const char*>(data), size});
    return 0;
}
