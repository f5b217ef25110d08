// Products of one step's activations with weights: what the matmul operators share.
#pragma once

#include <span>

#include "../kernel_table.h"
#include "weights.h"

namespace rocmforge {

struct Product {
  BlockFormat format;
  MatMul args;

  // The weights at input `index` of a call; `outputs` = 0 means as many as there are rows.
  Product(const Context& context, const Weights& weights, size_t index, int64_t outputs);
  // `outputs` rows of `rows` from `first` on.
  Product(const Weights& weights, const WeightRows& rows, int64_t first, int64_t outputs);
  bool reads_quantized() const { return block_shape(format).columns >= activation_block; }
};

// Floats that rows of activations take as they are and rounded, and where the rounded ones begin.
int64_t floats_of_rows(int64_t rows, int64_t columns);
QuantizedRows rounded_rows(float* memory, int64_t rows, int64_t columns);

// Computes rows [0, rows) of every product, whose inputs and outputs are set, on all threads.
void multiply(const Context& context, std::span<const Product> products, int64_t rows);

// As `multiply` for two products of equal shape; then second.y = activation(first.y) * second.y.
using Activation = void (*)(const float* gate, const float* up, int64_t count, float* y);
void multiply_gated(const Context& context, const Product& first, const Product& second,
                    int64_t rows, Activation activation);

}  // namespace rocmforge
