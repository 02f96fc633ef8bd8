/// Tells the sanitizers when a thread changes its stack, because they cannot see it. Without a sanitizer it does nothing.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

/// What a sanitizer knows of one stack.
struct StackNotes {
    const void* lowest = nullptr;
    std::size_t size = 0;
    void* memory = nullptr;  // ThreadSanitizer's fiber, or AddressSanitizer's fake stack (keeps locals past their end)

    /// Called on this stack, before the thread changes to the other. `for_good`: it will not come back. Inline, or else
    /// a sanitizer would see a call begin on one stack and end on another.
    [[gnu::always_inline]] void leave_for([[maybe_unused]] StackNotes& other,
                                          [[maybe_unused]] bool for_good = false) noexcept {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(for_good ? nullptr : &memory, other.lowest, other.size);
#elif defined(__SANITIZE_THREAD__)
        memory = __tsan_get_current_fiber();
        if (!other.memory) other.memory = __tsan_create_fiber(0);
        __tsan_switch_to_fiber(other.memory, 0);
#endif
    }
    /// Called on this stack, after the thread has come from the other. Notes where the other is.
    void come_from([[maybe_unused]] StackNotes& other) noexcept {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(memory, &other.lowest, &other.size);
#endif
    }
    /// Called on another stack: no thread will be on this one any more.
    void forget() noexcept {
#if defined(__SANITIZE_THREAD__)
        if (memory) __tsan_destroy_fiber(memory);
#endif
    }
};
