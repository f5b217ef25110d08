#include "layer_norm.h"

#include "../instruction_set.h"
#include "../work_units.h"

namespace rocmforge {

void LayerNorm::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t rows = x.shape[0], columns = x.shape[1];
  const auto weight = context.input<float>(1, {columns});
  const auto residual = context.input<float>(2, {rows, columns});
  float* y = context.output<float>(0, {rows, columns});
  float* sum = context.has_output(1) ? context.output<float>(1, {rows, columns}) : nullptr;

  const KernelTable& table = kernels();
  const WorkUnits units(rows, columns);
  context.parallel_for(units.count(), [&](int64_t unit) {
    for (int64_t row = units.begin(unit); row < units.end(unit); ++row) {
      const int64_t at = row * columns;
      table.layer_norm(x.data + at, residual ? residual.data + at : nullptr, weight.data, columns,
                       epsilon_, y + at, sum == nullptr ? nullptr : sum + at);
    }
  });
}

}  // namespace rocmforge
