// Memory of the GPU that is taken from HIP in regions and given out in parts.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace rocmforge::hip {

// What one session's tensors and scratch memory are parts of. A part that is given back is given
// out again at once, although kernels that use it may still wait in a stream: so an arena is of one
// stream. Any thread may call it.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // The smallest unused part that is large enough, or of a new region; null where HIP has none.
  void* take(size_t bytes);
  // Null is ignored.
  void give_back(void* memory);

 private:
  struct Part {
    size_t bytes;
    bool used;
    bool begins_region;
  };
  using Parts = std::map<char*, Part>;

  bool add_region(size_t bytes);
  void release_unused_regions();
  void set_unused(Parts::iterator part);
  void set_used(Parts::iterator part);

  std::mutex lock_;
  Parts parts_;  // all of them, by their addresses
  std::set<std::pair<size_t, char*>> unused_;
};

}  // namespace rocmforge::hip
