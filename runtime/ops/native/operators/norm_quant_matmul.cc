#include "norm_quant_matmul.h"

#include <algorithm>
#include <sstream>

#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

constexpr size_t first_matrix = 3;  // inputs: blocks and bias of each product in turn

// A function of the table by the name of an activation; null for one that is unknown.
Activation KernelTable::* activation_of(const std::string& name) {
  if (name == "silu") return &KernelTable::silu;
  if (name == "gelu") return &KernelTable::gelu;
  return nullptr;
}

}  // namespace

NormQuantMatMul::NormQuantMatMul(const Attributes& attributes)
    : columns_(attributes.integer("columns", 1)), epsilon_(attributes.real("epsilon")) {
  std::istringstream formats(attributes.text("formats")), rows(attributes.text("rows"));
  std::string format;
  int64_t count = 0;
  while (formats >> format && rows >> count) {
    if (count < 0 || count > most_size) attributes.fail("rows", "has " + std::to_string(count));
    matrices_.push_back({Weights(attributes, format, columns_), count});
  }
  if (matrices_.empty() || matrices_.size() > most_products || !(rows >> std::ws).eof()) {
    attributes.fail("formats", "and rows must name one to three matrices");
  }
  const std::string activation = attributes.text_or("activation", "");
  if (activation.empty()) return;
  activation_ = activation_of(activation);
  if (activation_ == nullptr) attributes.fail("activation", "'" + activation + "' is unknown");
  if (matrices_.size() != 2 || matrices_[0].rows != matrices_[1].rows) {
    attributes.fail("activation", "needs two matrices of the same size");
  }
}

void NormQuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, columns_});
  const auto weight = context.input<float>(1, {columns_});
  const int64_t rows = x.shape[0];
  const auto residual = context.input<float>(2, {rows, columns_});

  std::vector<Product> products;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const size_t input = first_matrix + 2 * i;
    Product& product =
        products.emplace_back(context, matrices_[i].weights, input, matrices_[i].rows);
    product.args.bias = context.input<float>(input + 1, {product.args.outputs}).data;
    const bool is_gate = activation_ != nullptr && i == 0;
    const size_t output = i == 0 || activation_ != nullptr ? 0 : i + 1;
    if (!is_gate) product.args.y = context.output<float>(output, {rows, product.args.outputs});
  }
  float* sum = context.has_output(1) ? context.output<float>(1, {rows, columns_}) : nullptr;

  const int64_t gate_values = activation_ == nullptr ? 0 : rows * products[0].args.outputs;
  float* normed = scratch<float>(ScratchUse::call, floats_of_rows(rows, columns_) + gate_values);
  const QuantizedRows quantized = rounded_rows(normed, rows, columns_);
  if (activation_ != nullptr) products[0].args.y = normed + floats_of_rows(rows, columns_);
  for (Product& product : products) {
    product.args.x = normed;
    product.args.quantized = quantized;
  }
  const bool rounds = std::any_of(products.begin(), products.end(),
                                  [](const Product& each) { return each.reads_quantized(); });

  const KernelTable& table = kernels();
  constexpr int64_t work_of_value = 16;  // to norm and to round it
  const WorkUnits units(rows, columns_ * work_of_value, interleaved_rows);
  context.parallel_for(units.count(), [&](int64_t unit) {
    const int64_t begin = units.begin(unit), end = units.end(unit);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * columns_;
      table.rms_norm(x.data + at, residual ? residual.data + at : nullptr, weight.data, columns_,
                     columns_, epsilon_, normed + at, sum == nullptr ? nullptr : sum + at);
    }
    if (rounds) table.quantize(normed + begin * columns_, columns_, begin, end - begin, quantized);
  });
  if (activation_ == nullptr) {
    multiply(context, products, rows);
  } else {
    multiply_gated(context, products[0], products[1], rows, table.*activation_);
  }
}

}  // namespace rocmforge
