// A row of logits with a request's changes and mask, read block by block and never copied.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel_table.h"
#include "repetitions.h"

namespace rocmforge {

constexpr float no_logit = -__builtin_inff();
constexpr float least_logit = -__FLT_MAX__;

// Distinct tokens, and a number for each.
struct Amounts {
  const int64_t* tokens;
  const float* values;
  int64_t count;
};

// A row to sample and its request's parameters, as Python lays them out (runtime/sampling/rows.py).
struct SampledRow {
  const float* logits;  // [size], or null if they are elsewhere
  const float* maxima;  // of their blocks
  int64_t size;
  // The likeliest tokens and their logits, likeliest first: what is known without the logits.
  const int64_t* known_tokens;
  const float* known_logits;
  int64_t known;
  const uint64_t* mask;  // of each block's tokens a bit, 1 where it is allowed, or null
  int64_t mask_words;    // tokens behind its end are not allowed
  Amounts added;
  Amounts counts;  // of tokens in the window
  Said said;       // no tokens where repetitions are allowed
  double repetition_penalty;
  double presence_penalty;
  double frequency_penalty;
  double top_n_sigma;
  int64_t top_k;
  double typical_p;
  double top_p;
  double log_min_p;
  double xtc_probability;  // 0: off
  double xtc_threshold;
  double temperature;
  double dynatemp_range;
  double dynatemp_exponent;
  RepetitionRules repetitions;
  uint8_t samplers[8];  // in their order, then zeros
  int64_t greedy;
  int64_t drops_none;  // no sampler drops a token, so that one is drawn in the order of ids
  double chance;
  double xtc_chance;
};

struct Candidate {
  uint32_t token;
  float logit;
};

// Sums over logits that reach a floor: weights, weights times distances, and how many there are.
struct Totals {
  explicit Totals(const Weighed& found);
  double mass, gaps;
  int64_t count;
};

// The standard deviation of logits.
double deviation_of(const Moments& found);

// Owned by one thread, which reads one row after the other.
class LogitRow {
 public:
  // Whether the changed row has a finite maximum and no infinity or what is no number.
  bool begin(const SampledRow& row);
  // Whether the likeliest token is known, and whether every logit is.
  bool is_begun() const { return is_here() || !known_.empty(); }
  bool is_here() const { return row_->logits != nullptr; }

  int64_t size() const { return row_->size; }
  float largest() const { return largest_; }
  // The token of the largest logit, the lowest of several.
  int64_t likeliest();

  // Finds all tokens from some logit on, about `count` of them: the likeliest first, of equal ones
  // the lowest first. Returns whether no other token has a logit.
  bool find(int64_t count, std::vector<Candidate>& found);

  // Of all logits, which are here.
  double mass(const Weighing& by);
  Totals totals(const Weighing& by);
  double deviation();
  // The token at `chance`, 0 to 1, of the cumulative weight of all tokens.
  int64_t drawn(const Weighing& by, double chance);

 private:
  struct Change {
    uint32_t token;
    int32_t next;  // of the same block, or -1
    float added, count, taken;
    float value;
  };

  double mass_of(int64_t first, int64_t end, const Weighing& by);
  template <typename Read>
  void each_block(Read read);
  const float* block(int64_t index);
  float own(int64_t token) const;
  void change(const Amounts& amounts, float Change::* part);
  Change* changed(int64_t token);
  bool apply_changes();
  float bound_of(int64_t count);
  void find_known();
  bool is_allowed(int64_t token) const;
  uint64_t allowed_of(int64_t index) const;

  const SampledRow* row_ = nullptr;
  int64_t blocks_ = 0;
  const float* maxima_ = nullptr;
  float largest_ = 0;
  std::vector<float> own_maxima_;
  std::vector<int32_t> heads_;  // of each block's changes, or -1
  std::vector<Change> changes_;
  Repetitions repetitions_;
  std::vector<Candidate> known_;
  std::vector<float> scratch_;
  std::vector<uint64_t> keys_, sorted_;
  std::vector<double> masses_;
  Weighing mass_by_{}, weighed_by_{};
  double mass_ = 0;
  Weighed weighed_;
  bool has_mass_ = false, has_weighed_ = false;
  float buffer_[logit_block];
};

}  // namespace rocmforge
