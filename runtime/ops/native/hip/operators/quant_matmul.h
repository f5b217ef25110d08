#pragma once

#include "../../operators/quant_matmul.h"
#include "../matrix.h"

namespace rocmforge::hip {

class QuantMatMul {
 public:
  static constexpr const char* name = rocmforge::QuantMatMul::name;
  static constexpr auto& inputs = rocmforge::QuantMatMul::inputs;
  static constexpr auto& outputs = rocmforge::QuantMatMul::outputs;
  static constexpr bool reads_on_host(size_t input) { return input == 1; }

  explicit QuantMatMul(const Attributes& attributes)
      : columns_(attributes.integer("columns", 1)),
        memory_(attributes),
        matrix_(uploaded(attributes, name, 1, inputs[1], attributes.text("format"), columns_)) {}
  void compute(const Context& context) const;

 private:
  int64_t columns_;
  ScratchMemory memory_;
  Matrix matrix_;
};

}  // namespace rocmforge::hip
