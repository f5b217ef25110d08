#include "quant_matmul.h"

namespace rocmforge::hip {

void QuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, columns_});
  const int64_t rows = x.shape[0];
  const auto bias = context.input<float>(2, {matrix_.rows()});
  float* y = context.output<float>(0, {rows, matrix_.rows()});
  Scratch scratch(memory_);
  Activations activations(x.data, rows * columns_);
  matrix_.multiply(context.stream(), scratch, y, activations, bias.data, rows);
}

}  // namespace rocmforge::hip
