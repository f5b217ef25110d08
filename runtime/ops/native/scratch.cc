#include "scratch.h"

#include <cstdlib>
#include <memory>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace rocmforge {
namespace {

constexpr size_t alignment = 64;

struct Release {
  void operator()(void* memory) const { std::free(memory); }
};

struct Arena {
  std::unique_ptr<void, Release> memory;
  size_t size = 0;
};

}  // namespace

void* scratch(ScratchUse use, size_t bytes) {
  thread_local Arena arenas[2];
  Arena& arena = arenas[static_cast<int>(use)];
  if (bytes > arena.size || arena.memory == nullptr) {
    const size_t size = (bytes + alignment) / alignment * alignment;
    arena = {};
    arena.memory.reset(std::aligned_alloc(alignment, size));
    if (arena.memory == nullptr) throw std::bad_alloc();
    arena.size = size;
  }
#if defined(__SANITIZE_ADDRESS__)
  // What the caller did not ask for is not to be touched.
  ASAN_UNPOISON_MEMORY_REGION(arena.memory.get(), arena.size);
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(arena.memory.get()) + bytes, arena.size - bytes);
#endif
  return arena.memory.get();
}

}  // namespace rocmforge
