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
    StackNotes(const void* lowest, std::size_t size) noexcept;
    StackNotes(const StackNotes&) = delete;
    StackNotes& operator=(const StackNotes&) = delete;
    ~StackNotes();

    void entering() noexcept;
    void entered() noexcept;
    void leaving(bool for_good) noexcept;
    void left() noexcept;

#if defined(__SANITIZE_ADDRESS__)

   private:
    struct Stack {
        const void* lowest = nullptr;
        std::size_t size = 0;
        void* fake = nullptr;  // where AddressSanitizer keeps the locals whose use after their end it looks for
    };
    Stack own_;
    Stack others_;
};

inline StackNotes::StackNotes(const void* lowest, std::size_t size) noexcept : own_{lowest, size} {}
inline StackNotes::~StackNotes() = default;
inline void StackNotes::entering() noexcept { __sanitizer_start_switch_fiber(&others_.fake, own_.lowest, own_.size); }
inline void StackNotes::entered() noexcept { __sanitizer_finish_switch_fiber(own_.fake, &others_.lowest, &others_.size); }
inline void StackNotes::leaving(bool for_good) noexcept {
    __sanitizer_start_switch_fiber(for_good ? nullptr : &own_.fake, others_.lowest, others_.size);
}
inline void StackNotes::left() noexcept { __sanitizer_finish_switch_fiber(others_.fake, nullptr, nullptr); }

#elif defined(__SANITIZE_THREAD__)

   private:
    void* own_ = __tsan_create_fiber(0);
    void* others_ = nullptr;
};

inline StackNotes::StackNotes(const void* /*lowest*/, std::size_t /*size*/) noexcept {}
inline StackNotes::~StackNotes() { __tsan_destroy_fiber(own_); }
inline void StackNotes::entering() noexcept {
    others_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(own_, 0);
}
inline void StackNotes::entered() noexcept {}
inline void StackNotes::leaving(bool /*for_good*/) noexcept { __tsan_switch_to_fiber(others_, 0); }
inline void StackNotes::left() noexcept {}

#else
};

inline StackNotes::StackNotes(const void* /*lowest*/, std::size_t /*size*/) noexcept {}
inline StackNotes::~StackNotes() = default;
inline void StackNotes::entering() noexcept {}
inline void StackNotes::entered() noexcept {}
inline void StackNotes::leaving(bool /*for_good*/) noexcept {}
inline void StackNotes::left() noexcept {}

#endif
