#pragma once

#include "weights.h"

namespace rocmforge {

// The rows of a weight matrix that ids name, as float32: token embeddings.
class RowLookup {
 public:
  static constexpr const char* name = "RowLookup";
  static constexpr Port inputs[] = {{"blocks", ort::ElementType::uint8},
                                    {"ids", ort::ElementType::int32}};
  static constexpr Port outputs[] = {{"rows", ort::ElementType::float32}};

  explicit RowLookup(const Attributes& attributes) : weights_(attributes) {}
  void compute(const Context& context) const;

 private:
  Weights weights_;
};

}  // namespace rocmforge
