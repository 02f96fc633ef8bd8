/// The limits that both protocols share (each protocol's header has its own), and the checks of what a client may write.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

inline constexpr std::size_t title_limit = 200;         ///< characters
inline constexpr std::size_t description_limit = 1000;  ///< characters
inline constexpr std::chrono::seconds sleep_limit{60};
/// How long a client who was told everything may take to hang up, before we do.
inline constexpr std::chrono::seconds farewell_limit{1};
/// How long to wait, where descriptors or memory are short, before accept(2) is tried again.
inline constexpr std::chrono::milliseconds shortage_pause{100};
/// No descriptor is ever as high as this.
inline constexpr int descriptor_limit = 1 << 20;

/// What is wrong with a title, or an empty text where nothing is.
std::string title_fault(std::string_view title);
/// The same for a description, which may have line breaks.
std::string description_fault(std::string_view description);
/// The same for the name that hello greets.
std::string name_fault(std::string_view name);
