#pragma once

#include "../../operators/rotary_angles.h"
#include "../kernel.h"

namespace rocmforge::hip {

class RotaryAngles {
 public:
  static constexpr const char* name = rocmforge::RotaryAngles::name;
  static constexpr auto& inputs = rocmforge::RotaryAngles::inputs;
  static constexpr auto& outputs = rocmforge::RotaryAngles::outputs;

  explicit RotaryAngles(const Attributes& attributes)
      : magnitude_(attributes.real_or("magnitude", 1.0f)), kernel_("rotary_angles") {}
  void compute(const Context& context) const;

 private:
  float magnitude_;
  Kernel<float*, const int32_t*, const float*, int32_t, float> kernel_;
};

}  // namespace rocmforge::hip
