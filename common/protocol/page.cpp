#include "protocol/page.hpp"

extern "C" const char page_begin[];
extern "C" const char page_end[];

// The assembler includes the file as it is. (C23 and C++26 have #embed for this, but g++ 12 does not.) The path is relative
// to the directory in which the compiler runs.
asm(R"(
    .section .rodata
page_begin:
    .incbin "common/protocol/page.html"
page_end:
    .previous
)");

std::string_view page() noexcept { return {page_begin, page_end}; }
