#pragma once

#include "../context.h"

namespace rocmforge {

// Cosines and sines of every token's rotation, once a step for all layers.
class RotaryAngles {
 public:
  static constexpr const char* name = "RotaryAngles";
  static constexpr Port inputs[] = {{"positions", ort::ElementType::int32},
                                    {"inverse_frequencies", ort::ElementType::float32}};
  static constexpr Port outputs[] = {{"angles", ort::ElementType::float32}};

  explicit RotaryAngles(const Attributes& attributes)
      : magnitude_(attributes.real_or("magnitude", 1.0f)) {}
  void compute(const Context& context) const;

 private:
  float magnitude_;
};

}  // namespace rocmforge
