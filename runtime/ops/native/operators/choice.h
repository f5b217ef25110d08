// How a router's logits choose the experts of a token.
#pragma once

#include <vector>

#include "../context.h"

namespace rocmforge {

class Choice {
 public:
  // From the attributes `used`, `gating`, `renormalize`, `groups`, `groups_used` and `scale`.
  explicit Choice(const Attributes& attributes);

  int64_t used() const { return used_; }
  // Whether this number of experts is supported.
  bool fits(int64_t experts) const {
    return experts % groups_ == 0 && used_ <= experts / groups_ * groups_used_;
  }

  // Scratch memory for choosing among this many experts.
  struct Memory {
    std::vector<float> odds, scores;
    std::vector<int64_t> order;
    explicit Memory(int64_t experts) : odds(experts), scores(experts), order(experts) {}
  };
  // Writes the chosen experts, the best first, and their shares; selection_bias may be null.
  void make(const float* logits, const float* selection_bias, Memory& memory, int64_t* chosen,
            float* shares) const;

 private:
  void keep_best_groups(Memory& memory) const;

  int64_t used_;
  bool sigmoid_;
  bool renormalize_;
  int64_t groups_;
  int64_t groups_used_;
  float scale_;
};

}  // namespace rocmforge
