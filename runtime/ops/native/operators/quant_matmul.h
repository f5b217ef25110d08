#pragma once

#include "weights.h"

namespace rocmforge {

// x @ weights.T + bias, on the blocks of the file or on packed ones.
class QuantMatMul {
 public:
  static constexpr const char* name = "QuantMatMul";
  static constexpr Port inputs[] = {{"x", ort::ElementType::float32},
                                    {"blocks", ort::ElementType::uint8},
                                    {"bias", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  // The optional attribute `rows` says how many weight rows of the last panel are real.
  explicit QuantMatMul(const Attributes& attributes)
      : weights_(attributes), rows_(attributes.integer_or("rows", 0, 0)) {}
  void compute(const Context& context) const;

 private:
  Weights weights_;
  int64_t rows_;  // 0: as many as the weights have
};

}  // namespace rocmforge
