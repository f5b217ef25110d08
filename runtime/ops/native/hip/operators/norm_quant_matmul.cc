#include "norm_quant_matmul.h"

#include <sstream>

namespace rocmforge::hip {
namespace {

constexpr size_t first_matrix = 3;  // inputs: blocks and bias of each product in turn

}  // namespace

NormQuantMatMul::NormQuantMatMul(const Attributes& attributes)
    : columns_(attributes.integer("columns", 1)),
      epsilon_(attributes.real("epsilon")),
      memory_(attributes) {
  std::istringstream formats(attributes.text("formats"));
  std::string format;
  while (formats >> format && matrices_.size() < rocmforge::NormQuantMatMul::most_products) {
    const size_t input = first_matrix + 2 * matrices_.size();
    matrices_.emplace_back(uploaded(attributes, name, input, inputs[input], format, columns_));
  }
  const std::string activation = attributes.text_or("activation", "");
  if (activation.empty()) return;
  gating_.emplace(attributes, activation);
  if (matrices_.size() != 2 || matrices_[0].rows() != matrices_[1].rows()) {
    attributes.fail("activation", "needs two matrices of the same size");
  }
}

void NormQuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, columns_});
  const auto weight = context.input<float>(1, {columns_});
  const int64_t rows = x.shape[0];
  const auto residual = context.input<float>(2, {rows, columns_});

  const Stream stream = context.stream();
  Scratch scratch(memory_);
  float* normed = scratch.take<float>(rows * columns_);
  float* total = context.has_output(1) ? context.output<float>(1, {rows, columns_}) : nullptr;
  norm_(stream, normed, total, x.data, residual.data, weight.data, rows, columns_, columns_,
        epsilon_);

  Activations activations(normed, rows * columns_);
  float* results[rocmforge::NormQuantMatMul::most_products];
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const Matrix& matrix = matrices_[i];
    const auto bias = context.input<float>(first_matrix + 2 * i + 1, {matrix.rows()});
    if (gating_) {
      results[i] = scratch.take<float>(rows * matrix.rows());
    } else {
      results[i] = context.output<float>(i == 0 ? 0 : i + 1, {rows, matrix.rows()});
    }
    matrix.multiply(stream, scratch, results[i], activations, bias.data, rows);
  }
  if (gating_) {
    float* y = context.output<float>(0, {rows, matrices_[0].rows()});
    (*gating_)(stream, y, results[0], results[1], rows* matrices_[0].rows());
  }
}

}  // namespace rocmforge::hip
