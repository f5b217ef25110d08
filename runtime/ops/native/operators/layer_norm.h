#pragma once

#include "../context.h"

namespace rocmforge {

// Norm of x + residual with the mean taken away, over whole rows.
class LayerNorm {
 public:
  static constexpr const char* name = "LayerNorm";
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"weight", ort::ElementType::float32},
      {"residual", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"sum", ort::ElementType::float32, ort::Presence::optional}};

  explicit LayerNorm(const Attributes& attributes) : epsilon_(attributes.real("epsilon")) {}
  void compute(const Context& context) const;

 private:
  float epsilon_;
};

}  // namespace rocmforge
