#include "row_lookup.h"

namespace rocmforge {

void RowLookup::compute(const Context& context) const {
  const WeightRows blocks = weights_.rows(context, 0);
  const auto ids = context.input<int32_t>(1, {any_size});
  const int64_t tokens = ids.shape[0], rows = blocks.count;
  for (int64_t t = 0; t < tokens; ++t) {
    if (ids.data[t] < 0 || ids.data[t] >= rows) {
      context.fail("ids", "has " + std::to_string(ids.data[t]) + ", there are " +
                              std::to_string(rows) + " rows");
    }
  }
  float* out = context.output<float>(0, {tokens, weights_.columns});
  const KernelTable& table = kernels();
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = out + t * weights_.columns;
    if (blocks.packed) {
      table.look_up_packed(weights_.format, blocks.data, ids.data[t], weights_.columns, row);
    } else {
      table.look_up(weights_.format, blocks.data + ids.data[t] * weights_.row_bytes,
                    weights_.columns, row);
    }
  }
}

}  // namespace rocmforge
