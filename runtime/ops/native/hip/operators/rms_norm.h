#pragma once

#include "../../operators/rms_norm.h"
#include "norm.h"

namespace rocmforge::hip {

class RMSNorm {
 public:
  static constexpr const char* name = rocmforge::RMSNorm::name;
  static constexpr auto& inputs = rocmforge::RMSNorm::inputs;
  static constexpr auto& outputs = rocmforge::RMSNorm::outputs;

  explicit RMSNorm(const Attributes& attributes) : epsilon_(attributes.real("epsilon")) {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
  NormKernels norm_;
};

}  // namespace rocmforge::hip
