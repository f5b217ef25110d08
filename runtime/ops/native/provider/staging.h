// Copies from the host's memory to the GPU's that the host does not wait for.
#pragma once

#include <cstddef>
#include <mutex>

#include "../hip/hip_api.h"

namespace rocmforge::hip {

// Copies through pinned memory on HIP's default stream, before which streams of sessions wait by
// themselves: so the source may change when `upload` returns, and kernels launched from then on
// read what was copied. Any thread may call it.
class Staging {
 public:
  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Throws Failure.
  void upload(void* to, const void* from, size_t bytes);

 private:
  // Half of the pinned memory, and the event of its last copy.
  struct Half {
    char* memory = nullptr;
    Event copied = nullptr;
    size_t used = 0;
  };

  void prepare();
  void use_other_half();

  std::mutex lock_;
  Half halves_[2];
  int current_ = 0;
};

}  // namespace rocmforge::hip
