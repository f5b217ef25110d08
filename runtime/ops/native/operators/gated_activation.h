#pragma once

#include "../context.h"
#include "../kernel_table.h"

namespace rocmforge {

// activation(gate) * up
class GatedActivation {
 public:
  static constexpr const char* name = "GatedActivation";
  static constexpr Port inputs[] = {{"gate", ort::ElementType::float32},
                                    {"up", ort::ElementType::float32}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  explicit GatedActivation(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  enum class Activation { silu, gelu };
  Activation activation_;
};

}  // namespace rocmforge
