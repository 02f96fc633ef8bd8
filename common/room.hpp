/// Room made in time: what is put where there is room for it needs no memory, which may be short when it counts. And room
/// given back when a storm has passed.
#pragma once

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <unordered_map>
#include <vector>

/// Room for so many elements in all. Where it makes more, it makes at least twice as much as there was, so that to ask for
/// one more each time costs little. Throws std::bad_alloc, and the list is as it was.
template <class T>
void make_room(std::vector<T>& list, std::size_t elements) {
    if (list.capacity() < elements) list.reserve(std::max(elements, 2 * list.capacity()));
}

/// Room for no more than so many, or than there are in it. Throws as above.
template <class T>
void make_less_room(std::vector<T>& list, std::size_t elements) {
    std::vector<T> smaller;
    smaller.reserve(std::max(elements, list.size()));
    smaller.insert(smaller.end(), list.begin(), list.end());
    list.swap(smaller);
}
template <class Key, class T>
void make_less_room(std::unordered_map<Key, T>& map, std::size_t elements) {
    map.rehash(elements);
}

/// What was needed for a storm of clients goes back to the system. The C library keeps freed memory for the next
/// allocations, and a storm's is strewn with what is still in use, so it must be told (malloc_trim(3)): it returns each page
/// that is free. That takes milliseconds, and happens once a storm.
class Storm {
   public:
    /// Asked now and then, with the number of clients there are: once there have been hundreds, and then a quarter of the
    /// most, or fewer, keeps room in these containers for no more of them; and so on, until few are left.
    template <class... Container>
    void may_have_passed(std::size_t clients, Container&... containers) noexcept {
        most_ = std::max(most_, clients);
        passing_ = passing_ || most_ >= 500;
        if (!passing_ || clients > most_ / 4) return;
        most_ = clients;
        passing_ = clients > 15;
        try {
            (make_less_room(containers, clients + 1), ...);
        } catch (const std::bad_alloc&) {  // none for the smaller one: so it stays as large as it is
        }
        malloc_trim(0);
    }

   private:
    std::size_t most_ = 0;
    bool passing_ = false;
};
