#include "rms_norm.h"

namespace rocmforge::hip {

void RMSNorm::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t rows = x.shape[0], columns = x.shape[1];
  const auto weight = context.input<float>(1, {any_size});
  const int64_t width = weight.shape[0];
  if (width == 0 || columns % width != 0) {
    context.fail("weight", "has " + std::to_string(width) + " values, which do not divide the " +
                               std::to_string(columns) + " columns of x");
  }
  const auto residual = context.input<float>(2, {rows, columns});
  float* y = context.output<float>(0, {rows, columns});
  float* total = context.has_output(1) ? context.output<float>(1, {rows, columns}) : nullptr;
  norm_(context.stream(), y, total, x.data, residual.data, weight.data, rows, columns, width,
        epsilon_);
}

}  // namespace rocmforge::hip
