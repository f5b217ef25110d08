#pragma once

#include "state_rows.h"

namespace rocmforge {

// A selective state-space model over each row's tokens, one after the other; each channel of a head
// has a state of its own.
class SelectiveScan {
 public:
  static constexpr const char* name = "SelectiveScan";
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"steps", ort::ElementType::float32},
      {"input", ort::ElementType::float32},
      {"output", ort::ElementType::float32},
      {"decay", ort::ElementType::float32},
      {"skip", ort::ElementType::float32},
      {"step_bias", ort::ElementType::float32, ort::Presence::optional},
      {"row_starts", ort::ElementType::int32},
      {"state_starts", ort::ElementType::int32},
      {"state_slots", ort::ElementType::int32},
      {"states", ort::ElementType::float32}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"states_written", ort::ElementType::float32}};
  static constexpr Alias alias{10, 1};  // states are written in place

  explicit SelectiveScan(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  int64_t offset_;
  int64_t heads_;       // H
  int64_t groups_;      // G, of heads that share input and output
  int64_t state_size_;  // N, of a channel
};

}  // namespace rocmforge
