#pragma once

#include "../kernel_table.h"
#include "weights.h"

namespace rocmforge {

// x @ weights.T + bias, on the raw blocks of the file.
class QuantMatMul {
 public:
  static constexpr const char* name = "QuantMatMul";
  static constexpr Port inputs[] = {{"x", ort::ElementType::float32},
                                    {"blocks", ort::ElementType::uint8},
                                    {"bias", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  explicit QuantMatMul(const Attributes& attributes) : weights_(attributes) {}
  void compute(const Context& context) const;

 private:
  QuantizedRows quantize(const Context& context, const float* x, int64_t rows) const;

  Weights weights_;
};

}  // namespace rocmforge
