#include "products.h"

#include <algorithm>

#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

// Rows of x per unit: enough that unpacking a panel costs little, few enough to stay in the cache.
constexpr int64_t unit_rows = 128;

// How the panels and rows of a product are cut into units.
struct Units {
  WorkUnits of_panels;
  int64_t of_rows;
  int64_t rows;

  Units(const Product& product, int64_t rows, int64_t products)
      : of_panels(
            (product.args.outputs + kernels().panel_rows - 1) / kernels().panel_rows,
            std::min(rows, unit_rows) * product.args.columns * kernels().panel_rows * products),
        of_rows((rows + unit_rows - 1) / unit_rows),
        rows(rows) {}

  int64_t count() const { return of_panels.count() * of_rows; }
  Span rows_of(int64_t unit) const {
    const int64_t begin = unit / of_panels.count() * unit_rows;
    return {begin, std::min(rows, begin + unit_rows)};
  }
  Span panels_of(int64_t unit) const {
    const int64_t at = unit % of_panels.count();
    return {of_panels.begin(at), of_panels.end(at)};
  }
};

void compute(const Product& product, const Units& units, int64_t unit) {
  const KernelTable& table = kernels();
  void* memory =
      scratch<uint8_t>(ScratchUse::unit, table.matmul_scratch(product.format, product.args));
  table.matmul(product.format, product.args, units.rows_of(unit), units.panels_of(unit), memory);
}

}  // namespace

Product::Product(const Context& context, const Weights& weights, size_t index, int64_t outputs)
    : format(weights.format), args{} {
  const WeightRows rows = weights.rows(context, index);
  if (outputs > rows.count) context.fail("rows", "are more than the weights have");
  *this = Product(weights, rows, 0, outputs == 0 ? rows.count : outputs);
}

Product::Product(const Weights& weights, const WeightRows& rows, int64_t first, int64_t outputs)
    : format(weights.format), args{} {
  const KernelTable& table = kernels();
  const int64_t panel_bytes =
      weights.columns / block_shape(format).columns * table.packed_block_bytes(format);
  args.weights = rows.data +
                 (rows.packed ? first / table.panel_rows * panel_bytes : first * weights.row_bytes);
  args.packed = rows.packed;
  args.row_bytes = weights.row_bytes;
  args.outputs = outputs;
  args.columns = weights.columns;
}

int64_t floats_of_rows(int64_t rows, int64_t columns) {
  return rows * columns + QuantizedRows::bytes(rows, columns) / int64_t{sizeof(float)};
}

QuantizedRows rounded_rows(float* memory, int64_t rows, int64_t columns) {
  return {memory + rows * columns, rows};
}

void multiply(const Context& context, std::span<const Product> products, int64_t rows) {
  if (rows == 0) return;
  int64_t count = 0;
  for (const Product& product : products) count += Units(product, rows, 1).count();
  context.parallel_for(count, [&](int64_t unit) {
    for (const Product& product : products) {
      const Units units(product, rows, 1);
      if (unit < units.count()) return compute(product, units, unit);
      unit -= units.count();
    }
  });
}

void multiply_gated(const Context& context, const Product& first, const Product& second,
                    int64_t rows, Activation activation) {
  if (rows == 0) return;
  const Units units(first, rows, 2);
  const int64_t outputs = first.args.outputs, panel_rows = kernels().panel_rows;
  context.parallel_for(units.count(), [&](int64_t unit) {
    compute(first, units, unit);
    compute(second, units, unit);
    const Span some = units.rows_of(unit), panels = units.panels_of(unit);
    const int64_t begin = panels.begin * panel_rows;
    const int64_t end = std::min(outputs, panels.end * panel_rows);
    for (int64_t row = some.begin; row < some.end; ++row) {
      const int64_t at = row * outputs + begin;
      activation(first.args.y + at, second.args.y + at, end - begin, second.args.y + at);
    }
  });
}

}  // namespace rocmforge
