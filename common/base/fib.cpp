#include "base/fib.hpp"

// NOLINTNEXTLINE(misc-no-recursion): the recursion is the workload
std::uint64_t fib(int n) noexcept { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }
