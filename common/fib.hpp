/// The work that needs a processor and nothing else.
#pragma once

#include <cstdint>

/// The largest n whose Fibonacci number fits the result: fib(93) is the last below 2^63, and no one waits for fib(91).
inline constexpr int fib_limit = 90;

/// Up to here the number is there before a thread could be asked for it (microseconds).
inline constexpr int fib_at_once = 20;

/// The n-th Fibonacci number, 1-based (fib(1) and fib(2) are 1), by the naive recursion: the point is that it takes
/// exponentially long, so that one small number in a request decides how long a processor is busy.
/// Any thread may call it; it touches nothing but its argument.
std::uint64_t fib(int n) noexcept;
