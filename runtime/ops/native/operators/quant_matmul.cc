#include "quant_matmul.h"

#include "../scratch.h"
#include "../work_units.h"
#include "products.h"

namespace rocmforge {

void QuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, weights_.columns});
  Product product(context, weights_, 1, rows_);
  MatMul& args = product.args;
  const int64_t rows = x.shape[0];
  args.x = x.data;
  args.bias = context.input<float>(2, {args.outputs}).data;
  args.y = context.output<float>(0, {rows, args.outputs});
  if (args.outputs == 0) return;
  if (product.reads_quantized()) {
    const int64_t bytes = QuantizedRows::bytes(rows, weights_.columns);
    args.quantized = {scratch<uint8_t>(ScratchUse::call, bytes), rows};
    const KernelTable& table = kernels();
    constexpr int64_t work_of_value = 8;  // to round it
    const WorkUnits units(rows, weights_.columns * work_of_value, interleaved_rows);
    context.parallel_for(units.count(), [&](int64_t unit) {
      const int64_t begin = units.begin(unit);
      table.quantize(x.data + begin * weights_.columns, weights_.columns, begin,
                     units.end(unit) - begin, args.quantized);
    });
  }
  multiply(context, {&product, 1}, rows);
}

}  // namespace rocmforge
