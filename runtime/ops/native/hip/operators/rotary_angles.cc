#include "rotary_angles.h"

namespace rocmforge::hip {

void RotaryAngles::compute(const Context& context) const {
  const auto positions = context.input<int32_t>(0, {any_size});
  const auto frequencies = context.input<float>(1, {any_size});
  const int64_t tokens = positions.shape[0], half = frequencies.shape[0];
  float* angles = context.output<float>(0, {tokens, 2 * half});
  if (half == 0) return;
  kernel_(context.stream(), {tokens}, angles, positions.data, frequencies.data,
          static_cast<int32_t>(half), magnitude_);
}

}  // namespace rocmforge::hip
