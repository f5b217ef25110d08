#include "quant_matmul.h"

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

// Rows of x per unit: enough that unpacking a panel costs little, few enough to stay in the cache.
constexpr int64_t unit_rows = 128;

}  // namespace

// x rounded to 8 bits, once for the whole call, in the calling thread's memory.
QuantizedRows QuantMatMul::quantize(const Context& context, const float* x, int64_t rows) const {
  const int64_t values = rows * weights_.columns, blocks = values / activation_block;
  auto* memory = scratch<int8_t>(ScratchUse::call, QuantizedRows::bytes(values));
  QuantizedRows quantized;
  quantized.scales = reinterpret_cast<float*>(memory);
  quantized.sums = quantized.scales + blocks;
  quantized.code_sums = reinterpret_cast<int32_t*>(quantized.sums + blocks);
  quantized.multipliers = reinterpret_cast<int16_t*>(quantized.code_sums + blocks);
  quantized.codes = reinterpret_cast<int8_t*>(quantized.multipliers + values / 2);

  const KernelTable& table = kernels();
  const WorkUnits units(rows, weights_.columns);
  context.parallel_for(units.count(), [&](int64_t unit) {
    for (int64_t row = units.begin(unit); row < units.end(unit); ++row) {
      table.quantize(x + row * weights_.columns, weights_.columns, row, quantized);
    }
  });
  return quantized;
}

void QuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, weights_.columns});
  const WeightRows blocks = weights_.rows(context, 1);
  const int64_t rows = x.shape[0], outputs = rows_ == 0 ? blocks.count : rows_;
  if (outputs > blocks.count) context.fail("rows", "are more than the weights have");
  const auto bias = context.input<float>(2, {outputs});

  MatMul args{};
  args.weights = blocks.data;
  args.packed = blocks.packed;
  args.row_bytes = weights_.row_bytes;
  args.outputs = outputs;
  args.columns = weights_.columns;
  args.x = x.data;
  args.bias = bias.data;
  args.y = context.output<float>(0, {rows, outputs});
  if (rows == 0 || outputs == 0) return;
  if (block_shape(weights_.format).columns == activation_block) {
    args.quantized = quantize(context, x.data, rows);
  }

  const KernelTable& table = kernels();
  const int64_t panels = (outputs + table.panel_rows - 1) / table.panel_rows;
  const int64_t row_units = (rows + unit_rows - 1) / unit_rows;
  const int64_t panel_work = std::min(rows, unit_rows) * weights_.columns * table.panel_rows;
  const WorkUnits units(panels, panel_work);
  context.parallel_for(units.count() * row_units, [&](int64_t unit) {
    const int64_t row = unit / units.count() * unit_rows, of_panels = unit % units.count();
    void* memory = scratch<uint8_t>(ScratchUse::unit, table.matmul_scratch(weights_.format, args));
    table.matmul(weights_.format, args, {row, std::min(rows, row + unit_rows)},
                 {units.begin(of_panels), units.end(of_panels)}, memory);
  });
}

}  // namespace rocmforge
