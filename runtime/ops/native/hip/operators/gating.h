// The kernel that gates one matrix of values by another.
#pragma once

#include <string>

#include "../../context.h"
#include "../kernel.h"

namespace rocmforge::hip {

class GatingKernel {
 public:
  // By the name of an activation; `attributes` name the operator where it is unknown.
  GatingKernel(const Attributes& attributes, const std::string& activation)
      : kernel_("gated_activation") {
    constexpr const char* names[] = {"silu", "gelu", "clamped_silu"};
    while (kind_ < 3 && activation != names[kind_]) ++kind_;
    if (kind_ == 3) attributes.fail("activation", "'" + activation + "' is unknown");
  }

  // y = activation(gate) * up; y may be one of them.
  void operator()(Stream stream, float* y, const float* gate, const float* up,
                  int64_t count) const {
    kernel_(stream, {ceiling_divide(count, kernel_.constant("BLOCK"))}, y, gate, up,
            static_cast<int32_t>(count), kind_);
  }

 private:
  Kernel<float*, const float*, const float*, int32_t, int32_t> kernel_;
  int32_t kind_ = 0;
};

}  // namespace rocmforge::hip
