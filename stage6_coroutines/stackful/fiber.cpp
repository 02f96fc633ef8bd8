#include "fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace {

/// Bytes of address space. A conversation touches a few pages, and only those become memory.
constexpr std::size_t stack_size = 262'144;

Fiber* running = nullptr;  // null outside of fibers

std::size_t page_size() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

/// A stack, and a guard page below it, so that a stack overflow crashes instead of overwriting another stack.
void* new_stack() {
    void* const stack = mmap(nullptr, page_size() + stack_size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "no memory for a stack");
    if (mprotect(stack, page_size(), PROT_NONE) != 0) {
        const int error = errno;  // the number of mappings is limited (vm.max_map_count), and this splits one in two
        munmap(stack, page_size() + stack_size);
        throw std::system_error(error, std::generic_category(), "no memory for a stack");
    }
    return stack;
}

void* above_guard(void* stack) noexcept { return static_cast<char*>(stack) + page_size(); }

}  // namespace

Fiber::Fiber(std::function<void()> body)
    : body_(std::move(body)), stack_(new_stack()), notes_{above_guard(stack_), stack_size} {
    getcontext(&context_);
    context_.uc_stack.ss_sp = above_guard(stack_);
    context_.uc_stack.ss_size = stack_size;
    makecontext(&context_, begin, 0);
}

Fiber::~Fiber() {
    notes_.forget();
    munmap(stack_, page_size() + stack_size);
}

/// The outermost function on each stack.
void Fiber::begin() noexcept {
    Fiber& self = *running;
    self.notes_.come_from(self.resumers_notes_);
    self.body_();
    self.ended_ = true;
    self.notes_.leave_for(self.resumers_notes_, true);
    setcontext(&self.resumer_);
}

bool Fiber::resume(bool happened) {
    happened_ = happened;
    running = this;
    resumers_notes_.leave_for(notes_);
    swapcontext(&resumer_, &context_);  // saves this place in the first, and goes on at the second
    resumers_notes_.come_from(notes_);
    running = nullptr;
    return !ended_;
}

bool Fiber::wait(Awaited awaited) {
    Fiber& self = *running;
    self.awaits_ = awaited;
    self.notes_.leave_for(self.resumers_notes_);
    swapcontext(&self.context_, &self.resumer_);
    self.notes_.come_from(self.resumers_notes_);
    return self.happened_;
}
