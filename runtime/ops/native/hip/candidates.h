// The search for the largest logits of each row, so that the host need not see the others.
#pragma once

#include <memory>

#include "device_memory.h"
#include "kernel.h"

namespace rocmforge::hip {

// Used by one thread. Keeps the memory that its largest search took.
class Candidates {
 public:
  Candidates() : kernel_("candidates") {}

  // Of a row.
  int64_t count() const { return kernel_.constant("COUNT"); }

  // Of logits [rows, columns] on the device that nothing computes any more. Writes to the host's
  // `found` the values, float32 [rows, count()] with the largest first, then their tokens, int32 of
  // that shape. Where a row has fewer columns, the rest is -inf.
  void find(const float* logits, int64_t rows, int64_t columns, void* found);

 private:
  char* memory(int64_t bytes);

  // best values, best tokens, values, tokens
  Kernel<float*, int32_t*, const float*, const int32_t*, int32_t, int32_t> kernel_;
  std::unique_ptr<DeviceBuffer> memory_;
  int64_t memory_bytes_ = 0;
};

}  // namespace rocmforge::hip
