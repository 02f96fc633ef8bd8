/// Work that needs only a processor.
#pragma once

#include <cstdint>

/// The most that --max-fib may permit. fib(93) is the last below 2^64, but nobody waits for fib(91).
inline constexpr int fib_limit = 90;

/// Up to this n, the protocols call fib themselves: it takes a few microseconds, less than handing the work to a thread.
inline constexpr int fib_at_once = 20;

/// The n-th Fibonacci number, n from 1 (fib(1) and fib(2) are 1), by the naive recursion. It takes exponentially long on
/// purpose: one small number in a request decides how long a processor is busy.
/// Any thread may call it, because it uses nothing but its argument.
std::uint64_t fib(int n) noexcept;
