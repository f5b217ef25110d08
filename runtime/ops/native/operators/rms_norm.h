#pragma once

#include "../context.h"

namespace rocmforge {

// Root-mean-square norm of x + residual over groups as wide as the weight.
class RMSNorm {
 public:
  static constexpr const char* name = "RMSNorm";
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"weight", ort::ElementType::float32},
      {"residual", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"sum", ort::ElementType::float32, ort::Presence::optional}};

  explicit RMSNorm(const Attributes& attributes) : epsilon_(attributes.real("epsilon")) {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
};

}  // namespace rocmforge
