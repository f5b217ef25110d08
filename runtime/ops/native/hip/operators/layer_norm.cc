#include "layer_norm.h"

namespace rocmforge::hip {

void LayerNorm::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t rows = x.shape[0], columns = x.shape[1];
  const auto weight = context.input<float>(1, {columns});
  const auto residual = context.input<float>(2, {rows, columns});
  float* y = context.output<float>(0, {rows, columns});
  float* total = context.has_output(1) ? context.output<float>(1, {rows, columns}) : nullptr;
  kernel_(context.stream(), {rows}, y, total, x.data, residual.data, weight.data,
          static_cast<int32_t>(columns), residual.data != nullptr, total != nullptr, epsilon_);
}

}  // namespace rocmforge::hip
