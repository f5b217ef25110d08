// The kernels of RMSNorm, by the width of a group.
#pragma once

#include "../kernel.h"

namespace rocmforge::hip {

class NormKernels {
 public:
  NormKernels() : narrow_("rms_norm.narrow"), wide_("rms_norm.wide") {}

  // y and total [rows, columns] of x + residual over groups of `width`; total and residual may be
  // null.
  void operator()(Stream stream, float* y, float* total, const float* x, const float* residual,
                  const float* weight, int64_t rows, int64_t columns, int64_t width,
                  float epsilon) const {
    const auto& kernel = width <= most_narrow ? narrow_ : wide_;
    kernel(stream, {rows * (columns / width)}, y, total, x, residual, weight,
           static_cast<int32_t>(width), residual != nullptr, total != nullptr, epsilon);
  }

 private:
  static constexpr int64_t most_narrow = 256;
  using Norm = Kernel<float*, float*, const float*, const float*, const float*, int32_t, int32_t,
                      int32_t, float>;

  Norm narrow_;
  Norm wide_;
};

}  // namespace rocmforge::hip
