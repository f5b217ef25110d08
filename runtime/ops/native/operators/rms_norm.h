#pragma once

#include "norm_call.h"

namespace rocmforge {

// Root-mean-square norm of x + residual over groups as wide as the weight.
class RMSNorm {
 public:
  static constexpr const char* name = "RMSNorm";
  static constexpr auto& inputs = NormCall::inputs;
  static constexpr auto& outputs = NormCall::outputs;

  explicit RMSNorm(const Attributes& attributes) : epsilon_(attributes.real("epsilon")) {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
};

}  // namespace rocmforge
