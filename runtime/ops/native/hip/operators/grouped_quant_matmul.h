#pragma once

#include "../../operators/grouped_quant_matmul.h"
#include "../matrix.h"

namespace rocmforge::hip {

// A product by experts in which every group of a token has an expert of its own.
class GroupedQuantMatMul {
 public:
  static constexpr const char* name = rocmforge::GroupedQuantMatMul::name;
  static constexpr auto& inputs = rocmforge::GroupedQuantMatMul::inputs;
  static constexpr auto& outputs = rocmforge::GroupedQuantMatMul::outputs;
  static constexpr bool reads_on_host(size_t input) { return input == 1; }

  explicit GroupedQuantMatMul(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  int64_t columns_;
  int64_t groups_;
  ScratchMemory memory_;
  Matrix matrix_;
  Kernel<int32_t*, int32_t*, int32_t*, int32_t, int32_t, int32_t, int32_t> place_;
};

}  // namespace rocmforge::hip
