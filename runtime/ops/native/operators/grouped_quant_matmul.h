#pragma once

#include "weights.h"

namespace rocmforge {

// Equal slices of x, each times a matrix of its own; the matrices are concatenated.
class GroupedQuantMatMul {
 public:
  static constexpr const char* name = "GroupedQuantMatMul";
  static constexpr Port inputs[] = {{"x", ort::ElementType::float32},
                                    {"blocks", ort::ElementType::uint8}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  explicit GroupedQuantMatMul(const Attributes& attributes)
      : weights_(attributes), groups_(attributes.integer("groups", 1)) {}
  void compute(const Context& context) const;

 private:
  Weights weights_;
  int64_t groups_;
};

}  // namespace rocmforge
