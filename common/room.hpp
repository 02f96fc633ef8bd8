/// Room made in time: what is put where there is room for it needs no memory, which may be short when it counts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

/// Room for so many elements in all. Where it makes more, it makes at least twice as much as there was, so that to ask for
/// one more each time costs little. Throws std::bad_alloc, and the list is as it was.
template <class T>
void make_room(std::vector<T>& list, std::size_t elements) {
    if (list.capacity() < elements) list.reserve(std::max(elements, 2 * list.capacity()));
}
