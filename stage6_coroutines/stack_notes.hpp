/// Tells the sanitizers when a thread changes its stack, which they can't know. Without a sanitizer it does nothing.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

/// Of one stack. Each change is told before it, on the old stack, and after it, on the new one.
class StackNotes {
   public:
    StackNotes(const StackNotes&) = delete;
    StackNotes& operator=(const StackNotes&) = delete;

#if defined(__SANITIZE_ADDRESS__)

    StackNotes(const void* lowest, std::size_t size) noexcept : own_{lowest, size, nullptr} {}
    ~StackNotes() = default;
    void entering() noexcept { __sanitizer_start_switch_fiber(&others_.fake, own_.lowest, own_.size); }
    void entered() noexcept { __sanitizer_finish_switch_fiber(own_.fake, &others_.lowest, &others_.size); }
    void leaving(bool for_good) noexcept {
        __sanitizer_start_switch_fiber(for_good ? nullptr : &own_.fake, others_.lowest, others_.size);
    }
    void left() noexcept { __sanitizer_finish_switch_fiber(others_.fake, nullptr, nullptr); }

   private:
    struct Stack {
        const void* lowest = nullptr;
        std::size_t size = 0;
        void* fake = nullptr;  // where AddressSanitizer keeps the locals whose use after their end it looks for
    };
    Stack own_;
    Stack others_;

#elif defined(__SANITIZE_THREAD__)

    StackNotes(const void* /*lowest*/, std::size_t /*size*/) noexcept {}
    ~StackNotes() { __tsan_destroy_fiber(own_); }
    void entering() noexcept {
        others_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(own_, 0);
    }
    void entered() noexcept {}
    void leaving(bool /*for_good*/) noexcept { __tsan_switch_to_fiber(others_, 0); }
    void left() noexcept {}

   private:
    void* own_ = __tsan_create_fiber(0);
    void* others_ = nullptr;

#else

    StackNotes(const void* /*lowest*/, std::size_t /*size*/) noexcept {}
    ~StackNotes() = default;
    void entering() noexcept {}
    void entered() noexcept {}
    void leaving(bool /*for_good*/) noexcept {}
    void left() noexcept {}

#endif
};
