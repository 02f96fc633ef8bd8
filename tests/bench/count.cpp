// Threads that count together, three ways.
//
//   count WAY THREADS MS       how many times they counted, in all; WAY is lock, atomic or each
//
// Each way is a count that `add_one(thread)` increments and `value()` tells. The threads do nothing else, so this is the
// most that the way can cost: a server counts once a request.
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr int most_threads = 64;

/// One number behind a lock.
class Lock {
   public:
    void add_one(int /*thread*/) {
        const std::lock_guard lock(mutex_);
        ++value_;
    }
    std::uint64_t value() {
        const std::lock_guard lock(mutex_);
        return value_;
    }

   private:
    std::mutex mutex_;
    std::uint64_t value_ = 0;
};

/// One number that the processor increments in one indivisible step. The core that does so must have the cache line of the
/// number to itself, so the line travels between the cores.
class Atomic {
   public:
    void add_one(int /*thread*/) { value_.fetch_add(1, std::memory_order_relaxed); }
    std::uint64_t value() { return value_.load(std::memory_order_relaxed); }

   private:
    std::atomic<std::uint64_t> value_{0};
};

/// A number for each thread, in a cache line of its own, added up by whoever asks. Atomic, so that others may read it; but
/// only its own thread writes it, so the increment need not be indivisible.
class Each {
   public:
    void add_one(int thread) {
        std::atomic<std::uint64_t>& mine = numbers_[static_cast<std::size_t>(thread)].value;
        mine.store(mine.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    std::uint64_t value() {
        std::uint64_t sum = 0;
        for (const Line& line : numbers_) sum += line.value.load(std::memory_order_relaxed);
        return sum;
    }

   private:
    struct alignas(64) Line {
        std::atomic<std::uint64_t> value{0};
    };
    std::array<Line, most_threads> numbers_;
};

template <class Count>
std::uint64_t counted(int threads, std::chrono::milliseconds time) {
    Count count;
    std::atomic<bool> over{false};
    {
        std::vector<std::jthread> counting;  // ~jthread waits for its end
        for (int thread = 0; thread < threads; ++thread)
            counting.emplace_back([&, thread] {
                while (!over.load(std::memory_order_relaxed))
                    for (int i = 0; i < 1000; ++i) count.add_one(thread);
            });
        std::this_thread::sleep_for(time);
        over = true;
    }
    return count.value();
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view way = argc == 4 ? argv[1] : "";
    const int threads = argc == 4 ? std::atoi(argv[2]) : 0;
    const std::chrono::milliseconds time(argc == 4 ? std::atoi(argv[3]) : 0);
    if (threads >= 1 && threads <= most_threads) {
        if (way == "lock") return fmt::print("{}\n", counted<Lock>(threads, time)), 0;
        if (way == "atomic") return fmt::print("{}\n", counted<Atomic>(threads, time)), 0;
        if (way == "each") return fmt::print("{}\n", counted<Each>(threads, time)), 0;
    }
    fmt::print(stderr, "usage: count lock|atomic|each THREADS MS, with 1 to {} threads\n", most_threads);
    return 2;
}
