#pragma once

#include "../operator.h"
#include "paged_rows.h"

namespace rocmforge {

// Rotates queries and keys by their angles, and writes keys and values to their pages.
class RotaryPageWrite {
 public:
  static constexpr const char* name = "RotaryPageWrite";
  static constexpr Port inputs[] = {
      {"q", ort::ElementType::float32},        {"k", ort::ElementType::float32},
      {"v", ort::ElementType::float32},        {"positions", ort::ElementType::int32},
      {"row_starts", ort::ElementType::int32}, {"page_table", ort::ElementType::int32},
      {"angles", ort::ElementType::float32},   {"pool", ort::ElementType::float16}};
  static constexpr Port outputs[] = {{"q_rotated", ort::ElementType::float32},
                                     {"pool_written", ort::ElementType::float16}};
  static constexpr Alias alias{7, 1};  // the pool is written in place

  explicit RotaryPageWrite(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  PagedHeads heads_;
  bool adjacent_;
};

}  // namespace rocmforge
