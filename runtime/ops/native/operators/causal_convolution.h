#pragma once

#include "state_rows.h"

namespace rocmforge {

// Depthwise convolution of each row's tokens with those before; the last inputs are the state.
class CausalConvolution {
 public:
  static constexpr const char* name = "CausalConvolution";
  static constexpr Port inputs[] = {{"x", ort::ElementType::float32},
                                    {"weight", ort::ElementType::float32},
                                    {"bias", ort::ElementType::float32, ort::Presence::optional},
                                    {"row_starts", ort::ElementType::int32},
                                    {"state_starts", ort::ElementType::int32},
                                    {"state_slots", ort::ElementType::int32},
                                    {"states", ort::ElementType::float32}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"states_written", ort::ElementType::float32}};
  static constexpr Alias alias{6, 1};  // states are written in place

  explicit CausalConvolution(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  int64_t offset_;
  bool silu_;
};

}  // namespace rocmforge
