#include "choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace rocmforge {
namespace {

constexpr float least_sum = 0x1p-14f;

// The indices of the `count` largest scores first; of equal ones the first.
void sort_best(const std::vector<float>& scores, int64_t count, std::vector<int64_t>& order) {
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
}

}  // namespace

Choice::Choice(const Attributes& attributes)
    : used_(attributes.integer("used", 1)),
      sigmoid_(false),
      renormalize_(attributes.integer("renormalize", 0) != 0),
      groups_(attributes.integer_or("groups", 1, 1)),
      groups_used_(attributes.integer_or("groups_used", 1, 1)),
      scale_(attributes.real_or("scale", 1.0f)) {
  const std::string gating = attributes.text_or("gating", "softmax");
  sigmoid_ = gating == "sigmoid";
  if (!sigmoid_ && gating != "softmax") attributes.fail("gating", "'" + gating + "' is unknown");
  if (groups_used_ > groups_) attributes.fail("groups_used", "are more than there are groups");
}

void Choice::make(const float* logits, const float* selection_bias, Memory& memory, int64_t* chosen,
                  float* shares) const {
  const auto experts = static_cast<int64_t>(memory.odds.size());
  std::vector<float>& odds = memory.odds;
  std::vector<float>& scores = memory.scores;
  const float top = sigmoid_ ? 0.0f : *std::max_element(logits, logits + experts);
  float whole = sigmoid_ ? 1.0f : 0.0f;
  for (int64_t e = 0; e < experts; ++e) {
    odds[e] = sigmoid_ ? 1.0f / (1.0f + std::exp(-logits[e])) : std::exp(logits[e] - top);
    if (!sigmoid_) whole += odds[e];
  }
  // Logits have the order of their softmax, also where an exponential underflows.
  const bool by_logits = selection_bias == nullptr && !sigmoid_ && groups_ == 1;
  for (int64_t e = 0; e < experts; ++e) {
    const float bias = selection_bias == nullptr ? 0.0f : selection_bias[e];
    scores[e] = by_logits ? logits[e] : odds[e] / whole + bias;
    // A comparison with NaN is no order; such a router is broken anyway.
    if (std::isnan(scores[e])) scores[e] = -std::numeric_limits<float>::infinity();
  }
  if (groups_ > 1) keep_best_groups(memory);
  sort_best(scores, used_, memory.order);
  if (renormalize_) {
    whole = 0.0f;
    for (int64_t i = 0; i < used_; ++i) whole += odds[memory.order[i]];
    if (sigmoid_) whole = std::max(whole, least_sum);
  }
  for (int64_t i = 0; i < used_; ++i) {
    chosen[i] = memory.order[i];
    shares[i] = odds[chosen[i]] / whole * scale_;
  }
}

void Choice::keep_best_groups(Memory& memory) const {
  const auto each = static_cast<int64_t>(memory.scores.size()) / groups_;
  std::vector<float> of_group(groups_);
  for (int64_t group = 0; group < groups_; ++group) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (int64_t e = group * each; e < (group + 1) * each; ++e) {
      const float score = memory.scores[e];
      second = std::max(second, std::min(first, score));
      first = std::max(first, score);
    }
    of_group[group] = each == 1 ? first : first + second;
  }
  std::vector<int64_t> order(groups_);
  sort_best(of_group, groups_used_, order);
  for (int64_t i = groups_used_; i < groups_; ++i) {
    std::fill_n(memory.scores.begin() + order[i] * each, each,
                -std::numeric_limits<float>::infinity());
  }
}

}  // namespace rocmforge
