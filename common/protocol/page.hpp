/// The page that GET / answers with: common/protocol/page.html, which is part of the program.
#pragma once

#include <string_view>

std::string_view page() noexcept;
