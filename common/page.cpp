#include "page.hpp"

extern "C" const char page_begin[];
extern "C" const char page_end[];

// What C23 and C++26 call #embed, which g++ 12 does not have: the assembler takes the file in as it is. Its name is relative
// to where the compiler runs.
asm(R"(
    .section .rodata
page_begin:
    .incbin "common/page.html"
page_end:
    .previous
)");

std::string_view page() noexcept { return {page_begin, page_end}; }
