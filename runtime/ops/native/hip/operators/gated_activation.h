#pragma once

#include "../../operators/gated_activation.h"
#include "gating.h"

namespace rocmforge::hip {

class GatedActivation {
 public:
  static constexpr const char* name = rocmforge::GatedActivation::name;
  static constexpr auto& inputs = rocmforge::GatedActivation::inputs;
  static constexpr auto& outputs = rocmforge::GatedActivation::outputs;

  explicit GatedActivation(const Attributes& attributes)
      : gating_(attributes, attributes.text("activation")) {}
  void compute(const Context& context) const;

 private:
  GatingKernel gating_;
};

}  // namespace rocmforge::hip
