#pragma once

#include "paged_rows.h"

namespace rocmforge {

// Attention of every token to the pages of its row.
class PagedAttention {
 public:
  static constexpr const char* name = "PagedAttention";
  static constexpr Port inputs[] = {{"q", ort::ElementType::float32},
                                    {"pool", ort::ElementType::float16},
                                    {"positions", ort::ElementType::int32},
                                    {"row_starts", ort::ElementType::int32},
                                    {"page_table", ort::ElementType::int32},
                                    {"sinks", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  explicit PagedAttention(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  PagedHeads heads_;
  float scale_;
  int64_t window_;
  float softcap_;
  bool causal_;
};

}  // namespace rocmforge
