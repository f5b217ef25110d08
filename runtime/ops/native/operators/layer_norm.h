#pragma once

#include "norm_call.h"

namespace rocmforge {

// Norm of x + residual with the mean taken away, over whole rows.
class LayerNorm {
 public:
  static constexpr const char* name = "LayerNorm";
  static constexpr auto& inputs = NormCall::inputs;
  static constexpr auto& outputs = NormCall::outputs;

  explicit LayerNorm(const Attributes& attributes) : epsilon_(attributes.real("epsilon")) {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
};

}  // namespace rocmforge
