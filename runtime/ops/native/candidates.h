// The samplers that filter the tokens of a row, and the draw among what they leave.
#pragma once

#include <cstdint>
#include <vector>

#include "logit_row.h"

namespace rocmforge {

enum class Sampler : uint8_t {
  none,
  top_n_sigma,
  top_k,
  typical_p,
  top_p,
  min_p,
  xtc,
  temperature
};

// What sampling a row gives if it gives no token.
constexpr int64_t needs_logits = -1;
constexpr int64_t not_finite = -2;
constexpr int64_t no_memory = -3;

// The likeliest tokens of a row; behind them, while it is open, all others that reach the floor.
//
// The rules are those of llama.cpp's samplers. Owned by one thread, which reuses it row by row.
class Candidates {
 public:
  // The token of a row, or why there is none.
  int64_t sample(const SampledRow& row);
  // What the samplers leave of a row, at most [size], and its weights; returns how many.
  int64_t keep(const SampledRow& row, int64_t* tokens, double* weights);

 private:
  // Each returns false if it would have to see more candidates.
  bool apply(Sampler sampler);
  bool top_n_sigma();
  bool top_k();
  bool typical_p();
  bool top_p();
  bool min_p();
  bool xtc();
  bool temperature();
  bool has_temperature(float& found);
  bool draw(int64_t& token);

  bool find(int64_t count);
  bool apply_all();
  int64_t count() const { return end_ - begin_; }
  Weighing weighing() const { return {largest_, divisor_, floor_}; }
  bool knows_tail() const { return !is_open_ || (is_tail_whole_ && row_.is_here()); }
  double distance(int64_t place) const;
  double own_deviation() const;
  template <typename Read>
  void each_block(Read read) const;
  const float* weights();
  double total();
  Totals totals();
  void cut(int64_t count);
  void drop_below(double floor);

  const SampledRow* wanted_ = nullptr;
  LogitRow row_;
  std::vector<Candidate> found_;
  std::vector<float> logits_;  // of those found, then minus infinity to the end of a block
  std::vector<float> weights_;
  int64_t begin_ = 0, end_ = 0;
  bool is_open_ = false;
  bool is_tail_whole_ = true;  // nothing that reaches the floor was left out behind the candidates
  bool has_weights_ = false;
  bool is_tempered_ = false;
  float largest_ = 0, divisor_ = 1, floor_ = least_logit;
};

}  // namespace rocmforge
