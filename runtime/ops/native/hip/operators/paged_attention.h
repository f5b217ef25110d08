#pragma once

#include "../../operators/paged_attention.h"
#include "../device_memory.h"
#include "../kernel.h"

namespace rocmforge::hip {

// Rows of one token or few are attended to in splits of their context, side by side; rows of more
// in tiles of queries. Trusts positions and pages, which lie on the device: the scheduler made
// them.
class PagedAttention {
 public:
  static constexpr const char* name = rocmforge::PagedAttention::name;
  static constexpr auto& inputs = rocmforge::PagedAttention::inputs;
  static constexpr auto& outputs = rocmforge::PagedAttention::outputs;

  explicit PagedAttention(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  PagedHeads heads_;
  float scale_;
  int32_t window_;
  float softcap_;
  ScratchMemory memory_;
  // y, partial results and their statistics, q, pool, positions, row_starts, page_table, sinks
  Kernel<float*, float*, float*, const float*, const Half*, const int32_t*, const int32_t*,
         const int32_t*, const float*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
         int32_t, float, float, int32_t>
      decode_;
  Kernel<float*, const float*, const float*, const int32_t*, const int32_t*, const float*, int32_t,
         int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>
      merge_;
  Kernel<float*, const float*, const Half*, const int32_t*, const int32_t*, const int32_t*,
         const float*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
         float, float>
      prefill_;
};

}  // namespace rocmforge::hip
