#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "instruction_set.h"

namespace rocmforge {
namespace {

constexpr int64_t first_candidates = 64;
constexpr int64_t growth = 4;
constexpr float least_temperature = std::numeric_limits<float>::min();

}  // namespace

int64_t Candidates::sample(const SampledRow& row) {
  wanted_ = &row;
  if (!row_.begin(row)) return not_finite;
  if (!row_.is_begun()) return needs_logits;
  if (row.greedy != 0) return row_.likeliest();
  if (row.drops_none != 0) {
    if (!row_.is_here()) return needs_logits;
    const auto divisor = static_cast<float>(row.temperature);
    return row_.drawn({row_.largest(), divisor, least_logit}, row.chance);
  }
  const bool is_limited = row.top_k > 0 && row.top_k < row.size;
  for (int64_t size = is_limited ? row.top_k : first_candidates;; size *= growth) {
    int64_t token = 0;
    const bool is_complete = find(size);
    if (apply_all() && draw(token)) return token;
    if (is_complete || !row_.is_here()) return needs_logits;
  }
}

int64_t Candidates::keep(const SampledRow& row, int64_t* tokens, double* weights) {
  wanted_ = &row;
  if (!row_.begin(row)) return not_finite;
  find(row.size);
  if (!apply_all()) return needs_logits;
  const float* own = this->weights();
  for (int64_t i = 0; i < count(); ++i) {
    tokens[i] = found_[begin_ + i].token;
    weights[i] = double{own[begin_ + i]};
  }
  return count();
}

// Starts with about this many candidates; returns whether they are all there are.
bool Candidates::find(int64_t count) {
  is_open_ = !row_.find(std::min(count, row_.size()), found_);
  begin_ = 0;
  end_ = static_cast<int64_t>(found_.size());
  logits_.assign((end_ + logit_block - 1) / logit_block * logit_block, no_logit);
  for (int64_t i = 0; i < end_; ++i) logits_[i] = found_[i].logit;
  is_tail_whole_ = true;
  has_weights_ = is_tempered_ = false;
  largest_ = row_.largest();
  divisor_ = 1;
  floor_ = least_logit;
  return !is_open_;
}

bool Candidates::apply_all() {
  for (const uint8_t sampler : wanted_->samplers) {
    if (!apply(static_cast<Sampler>(sampler))) return false;
  }
  return true;
}

bool Candidates::apply(Sampler sampler) {
  switch (sampler) {
    case Sampler::none:
      return true;
    case Sampler::top_n_sigma:
      return top_n_sigma();
    case Sampler::top_k:
      return top_k();
    case Sampler::typical_p:
      return typical_p();
    case Sampler::top_p:
      return top_p();
    case Sampler::min_p:
      return min_p();
    case Sampler::xtc:
      return xtc();
    case Sampler::temperature:
      return temperature();
  }
  return true;
}

// Drops what is further below the largest logit than this many standard deviations.
bool Candidates::top_n_sigma() {
  if (wanted_->top_n_sigma <= 0) return true;
  const bool is_whole = is_open_ && begin_ == 0 && floor_ == least_logit;
  if (is_open_ && !(is_whole && knows_tail())) return false;
  const double deviation = is_open_ ? row_.deviation() : own_deviation();
  drop_below(double{largest_} - wanted_->top_n_sigma * deviation);
  return true;
}

bool Candidates::top_k() {
  if (wanted_->top_k > 0) cut(wanted_->top_k);
  return true;
}

// Leaves the tokens whose surprise is closest to the expected one, up to a mass. Both are relative
// to the likeliest token's, so the logarithm of the sum cancels out.
bool Candidates::typical_p() {
  if (wanted_->typical_p >= 1) return true;
  if (!knows_tail()) return false;
  const Totals all = totals();
  const double expected = all.gaps / all.mass;
  const auto far = [&](int64_t place) { return std::abs(distance(place) - expected); };
  const float* own = weights();
  const double sought = wanted_->typical_p * all.mass;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  // From the expected distance on to both sides: kept are [left, right), and of the last tokens to
  // the left that are equally far the first ones, [partial, partial_end).
  int64_t right = begin_;
  while (right < end_ && distance(right) < expected) ++right;
  int64_t left = right, partial = right, partial_end = right;
  double mass = -1;
  while (mass <= sought && (left > begin_ || right < end_)) {
    const double before = left > begin_ ? far(left - 1) : infinity;
    const double behind = right < end_ ? far(right) : infinity;
    mass = std::max(mass, 0.0);
    if (behind < before) {
      mass += double{own[right++]};
      continue;
    }
    for (partial = left - 1; partial > begin_ && far(partial - 1) == before;) --partial;
    for (partial_end = partial; partial_end < left && mass <= sought;) {
      mass += double{own[partial_end++]};
    }
    if (partial_end == left) left = partial_end = partial;
  }
  // Tokens that are less likely are further away, unless they come closer at first.
  if (is_open_ && (right == end_ || distance(end_ - 1) < expected)) return false;
  int64_t end = begin_;
  const auto keep = [&](int64_t from, int64_t to) {
    for (; from < to; ++from, ++end) {
      found_[end] = found_[from];
      logits_[end] = logits_[from];
    }
  };
  keep(partial, partial_end);
  keep(left, right);
  end_ = end;
  largest_ = logits_[begin_];
  is_open_ = has_weights_ = false;
  return true;
}

// Leaves the smallest set of the likeliest that reaches a mass.
bool Candidates::top_p() {
  if (wanted_->top_p >= 1) return true;
  if (!knows_tail()) return false;
  const double sought = wanted_->top_p * total();
  const float* own = weights();
  double mass = 0;
  for (int64_t i = begin_; i < end_; ++i) {
    mass += double{own[i]};
    if (mass >= sought) {
      cut(i + 1 - begin_);
      return true;
    }
  }
  cut(count() + 1);
  return true;
}

// Leaves what is at least this share as likely as the likeliest.
bool Candidates::min_p() {
  if (wanted_->log_min_p == -std::numeric_limits<double>::infinity()) return true;
  const auto share = static_cast<float>(wanted_->log_min_p);
  if (!is_tempered_) {
    drop_below(double{largest_ + share});
    return true;
  }
  int64_t kept = 0;
  while (kept < count() && (logits_[begin_ + kept] - largest_) / divisor_ >= share) ++kept;
  cut(kept < count() ? kept : count() + 1);
  return true;
}

// Drops all likely tokens but the last of them, with a given probability.
bool Candidates::xtc() {
  if (wanted_->xtc_probability <= 0 || wanted_->xtc_chance > wanted_->xtc_probability) return true;
  if (!knows_tail()) return false;
  const double least = wanted_->xtc_threshold * total();
  const float* own = weights();
  int64_t likely = 0;
  while (likely < count() && double{own[begin_ + likely]} >= least) ++likely;
  if (is_open_ && likely == count()) return false;
  begin_ += std::max<int64_t>(likely - 1, 0);
  largest_ = logits_[begin_];
  has_weights_ = false;
  return true;
}

// Divides the logits, relative to the largest; at temperature 0 drops all others.
bool Candidates::temperature() {
  float temperature = 0;
  if (!has_temperature(temperature)) return false;
  if (temperature < least_temperature) {
    cut(1);
    return true;
  }
  divisor_ = temperature;
  is_tempered_ = true;
  has_weights_ = false;
  return true;
}

// The temperature, which may depend on the entropy of what is left.
bool Candidates::has_temperature(float& found) {
  const double middle = wanted_->temperature, width = wanted_->dynatemp_range;
  found = static_cast<float>(middle);
  if (width <= 0) return true;
  if (!knows_tail()) return false;
  const Totals left = totals();
  if (left.count < 2) return true;
  const double entropy = std::max(0.0, std::log(left.mass) + left.gaps / left.mass);
  const double share = entropy / std::log(static_cast<double>(left.count));
  const double low = std::max(0.0, middle - width), high = middle + width;
  found = static_cast<float>(low + (high - low) * std::pow(share, wanted_->dynatemp_exponent));
  return true;
}

// The token at the chance of the cumulative weight, the likeliest first.
bool Candidates::draw(int64_t& token) {
  if (!knows_tail()) return false;
  const double all = total(), sought = wanted_->chance * all;
  const float* own = weights();
  double mass = 0;
  for (int64_t i = begin_; i < end_; ++i) {
    mass += double{own[i]};
    // After the last token with weight there is only the rounding error of the draw.
    if (mass > sought || mass >= all) {
      token = found_[i].token;
      return true;
    }
  }
  return false;
}

// How far below the largest a logit is.
double Candidates::distance(int64_t place) const {
  return -double{(logits_[place] - largest_) / divisor_};
}

double Candidates::own_deviation() const {
  Moments moments;
  each_block([&](const float* logits) { kernels().add_moments(logits, largest_, moments); });
  return deviation_of(moments);
}

// Reads the logits of what is left, a block at a time.
template <typename Read>
void Candidates::each_block(Read read) const {
  float block[logit_block];
  for (int64_t at = begin_; at < end_; at += logit_block) {
    const int64_t here = std::min(logit_block, end_ - at);
    std::fill(std::copy_n(&logits_[at], here, block), block + logit_block, no_logit);
    read(block);
  }
}

// The weights of candidates, by their places, relative to the likeliest that is left.
const float* Candidates::weights() {
  if (!has_weights_) {
    weights_.resize(logits_.size());
    const Weighing by{largest_, divisor_, least_logit};
    for (int64_t at = 0; at < end_; at += logit_block) {
      kernels().weigh_block(&logits_[at], by, &weights_[at]);
    }
    has_weights_ = true;
  }
  return weights_.data();
}

// The sum of the weights of all that is left.
double Candidates::total() {
  // Those that were dropped in front weigh 1 each.
  if (is_open_) return row_.mass(weighing()) - static_cast<double>(begin_);
  const float* own = weights();
  double mass = 0;
  for (int64_t i = begin_; i < end_; ++i) mass += double{own[i]};
  return mass;
}

Totals Candidates::totals() {
  if (is_open_) {
    Totals all = row_.totals(weighing());
    all.mass -= static_cast<double>(begin_);
    all.count -= begin_;
    return all;
  }
  Weighed left;
  const Weighing by{largest_, divisor_, least_logit};
  each_block([&](const float* logits) { kernels().add_weighed(logits, by, left); });
  return Totals(left);
}

// Leaves at most this many.
void Candidates::cut(int64_t count) {
  if (count <= this->count()) {
    end_ = begin_ + std::max<int64_t>(count, 1);
    is_open_ = false;
  } else if (is_open_) {
    is_tail_whole_ = false;
  }
}

// Drops logits below a floor, never the largest.
void Candidates::drop_below(double floor) {
  int64_t kept = count();
  while (kept > 1 && double{logits_[begin_ + kept - 1]} < floor) --kept;
  if (kept < count()) {
    cut(kept);
  } else if (is_open_ && floor > double{floor_}) {
    // The least float that is not below it.
    const auto near = static_cast<float>(floor);
    const float above = std::nextafter(near, std::numeric_limits<float>::infinity());
    floor_ = double{near} < floor ? above : near;
  }
}

}  // namespace rocmforge
