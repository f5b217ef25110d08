#pragma once

#include "../../operators/rotary_page_write.h"
#include "../kernel.h"

namespace rocmforge::hip {

// Trusts positions and pages, which lie on the device: the scheduler made them.
class RotaryPageWrite {
 public:
  static constexpr const char* name = rocmforge::RotaryPageWrite::name;
  static constexpr auto& inputs = rocmforge::RotaryPageWrite::inputs;
  static constexpr auto& outputs = rocmforge::RotaryPageWrite::outputs;
  static constexpr Alias alias = rocmforge::RotaryPageWrite::alias;

  explicit RotaryPageWrite(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  PagedHeads heads_;
  bool adjacent_;
  Kernel<float*, Half*, const float*, const float*, const float*, const float*, const int32_t*,
         const int32_t*, const int32_t*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
         int32_t, int32_t>
      kernel_;
};

}  // namespace rocmforge::hip
