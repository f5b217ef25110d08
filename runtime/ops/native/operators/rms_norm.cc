#include "rms_norm.h"

#include "../instruction_set.h"
#include "../work_units.h"

namespace rocmforge {

void RMSNorm::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t rows = x.shape[0], columns = x.shape[1];
  const auto weight = context.input<float>(1, {any_size});
  const int64_t group = weight.shape[0];
  if (group == 0 || columns % group != 0) {
    context.fail("weight", "has " + std::to_string(group) + " values, which do not divide the " +
                               std::to_string(columns) + " columns of x");
  }
  const auto residual = context.input<float>(2, {rows, columns});
  float* y = context.output<float>(0, {rows, columns});
  float* sum = context.has_output(1) ? context.output<float>(1, {rows, columns}) : nullptr;

  const KernelTable& table = kernels();
  const WorkUnits units(rows, columns);
  context.parallel_for(units.count(), [&](int64_t unit) {
    for (int64_t row = units.begin(unit); row < units.end(unit); ++row) {
      const int64_t at = row * columns;
      table.rms_norm(x.data + at, residual ? residual.data + at : nullptr, weight.data, columns,
                     group, epsilon_, y + at, sum == nullptr ? nullptr : sum + at);
    }
  });
}

}  // namespace rocmforge
