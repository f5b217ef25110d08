#pragma once

#include "../../operators/layer_norm.h"
#include "../kernel.h"

namespace rocmforge::hip {

class LayerNorm {
 public:
  static constexpr const char* name = rocmforge::LayerNorm::name;
  static constexpr auto& inputs = rocmforge::LayerNorm::inputs;
  static constexpr auto& outputs = rocmforge::LayerNorm::outputs;

  explicit LayerNorm(const Attributes& attributes)
      : epsilon_(attributes.real("epsilon")), kernel_("layer_norm") {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
  Kernel<float*, float*, const float*, const float*, const float*, int32_t, int32_t, int32_t, float>
      kernel_;
};

}  // namespace rocmforge::hip
