#include "fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace {

/// A conversation needs some pages; these are addresses, of which those that are touched become memory.
constexpr std::size_t stack_size = 262'144;

Fiber* running = nullptr;

std::size_t page_size() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

/// A stack, and below it a page that may not be touched: to overflow a stack is to crash, not to write over another one.
void* new_stack() {
    void* const stack = mmap(nullptr, page_size() + stack_size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "no memory for a stack");
    if (mprotect(stack, page_size(), PROT_NONE) != 0) {
        const int error = errno;  // the number of mappings is limited (vm.max_map_count), and this makes two of one
        munmap(stack, page_size() + stack_size);
        throw std::system_error(error, std::generic_category(), "no memory for a stack");
    }
    return stack;
}

void* above_guard(void* stack) noexcept { return static_cast<char*>(stack) + page_size(); }

}  // namespace

Fiber::Fiber(std::function<void()> body)
    : body_(std::move(body)), stack_(new_stack()), notes_(above_guard(stack_), stack_size) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = above_guard(stack_);
    context_.uc_stack.ss_size = stack_size;
    makecontext(&context_, begin, 0);
}

Fiber::~Fiber() { munmap(stack_, page_size() + stack_size); }

Fiber* Fiber::running() noexcept { return ::running; }

/// The lowest function on each stack.
void Fiber::begin() {
    Fiber& self = *::running;
    self.notes_.entered();
    try {
        self.body_();
    } catch (...) {
        self.exception_ = std::current_exception();
    }
    self.ended_ = true;
    self.notes_.leaving(true);
    setcontext(&self.resumer_);
}

bool Fiber::resume() {
    ::running = this;
    notes_.entering();
    swapcontext(&resumer_, &context_);  // saves this place there, and goes on at that one
    notes_.left();
    ::running = nullptr;
    if (exception_) std::rethrow_exception(std::exchange(exception_, {}));
    return !ended_;
}

bool Fiber::wait(Wish wish) {
    wish_ = wish;
    notes_.leaving(false);
    swapcontext(&context_, &resumer_);
    notes_.entered();
    return granted_;
}
