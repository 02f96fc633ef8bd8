/// The page that GET / answers with: common/page.html, which is a part of the program.
#pragma once

#include <string_view>

std::string_view page() noexcept;
