#pragma once

#include <optional>
#include <vector>

#include "../../operators/norm_quant_matmul.h"
#include "../matrix.h"
#include "gating.h"
#include "norm.h"

namespace rocmforge::hip {

// The kernels of its parts one after the other, their results in scratch memory.
class NormQuantMatMul {
 public:
  static constexpr const char* name = rocmforge::NormQuantMatMul::name;
  static constexpr auto& inputs = rocmforge::NormQuantMatMul::inputs;
  static constexpr auto& outputs = rocmforge::NormQuantMatMul::outputs;
  static constexpr bool reads_on_host(size_t input) { return input >= 3 && input % 2 == 1; }

  explicit NormQuantMatMul(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  int64_t columns_;
  float epsilon_;
  ScratchMemory memory_;
  NormKernels norm_;
  std::vector<Matrix> matrices_;
  std::optional<GatingKernel> gating_;
};

}  // namespace rocmforge::hip
