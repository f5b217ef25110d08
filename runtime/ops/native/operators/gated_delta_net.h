#pragma once

#include "state_rows.h"

namespace rocmforge {

// The gated delta rule over each row's tokens, one after the other; a matrix a head is the state.
class GatedDeltaNet {
 public:
  static constexpr const char* name = "GatedDeltaNet";
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},          {"alpha", ort::ElementType::float32},
      {"beta", ort::ElementType::float32},       {"decay", ort::ElementType::float32},
      {"step_bias", ort::ElementType::float32},  {"row_starts", ort::ElementType::int32},
      {"state_starts", ort::ElementType::int32}, {"state_slots", ort::ElementType::int32},
      {"states", ort::ElementType::float32}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"states_written", ort::ElementType::float32}};
  static constexpr Alias alias{8, 1};  // states are written in place

  explicit GatedDeltaNet(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  int64_t offset_;
  int64_t heads_;      // H, of values
  int64_t key_heads_;  // G
  int64_t head_dim_;   // D
  float epsilon_;
  bool interleaved_;
};

}  // namespace rocmforge
