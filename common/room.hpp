/// Room made in time: what is put where there is room for it needs no memory, which may be short when it counts.
#pragma once

#include <cstddef>
#include <vector>

/// Room for so many elements in all. Where it makes more, it makes twice as much, so that to ask for one more each time
/// costs little. Throws std::bad_alloc, and the list is as it was.
template <class T>
void make_room(std::vector<T>& list, std::size_t elements) {
    if (list.capacity() < elements) list.reserve(2 * elements);
}
