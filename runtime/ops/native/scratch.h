// Memory for intermediate results, kept by each thread and grown on demand.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rocmforge {

// What a thread needs at the same time: something shared by a whole call, something for one unit.
enum class ScratchUse { call, unit };

// At least `bytes` bytes aligned to 64, valid until the thread's next call for the same use.
// Throws std::bad_alloc.
void* scratch(ScratchUse use, size_t bytes);

template <typename T>
T* scratch(ScratchUse use, int64_t count) {
  return static_cast<T*>(scratch(use, static_cast<size_t>(count) * sizeof(T)));
}

}  // namespace rocmforge
