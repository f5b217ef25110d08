#include "logit_row.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "instruction_set.h"

namespace rocmforge {
namespace {

// Above it keys are sorted digit by digit.
constexpr size_t few_keys = 256;
constexpr int64_t sampled_logits = 1024;
constexpr uint64_t every_token = ~uint64_t{0};
// Blocks of which a draw keeps one sum.
constexpr int64_t blocks_together = 16;

// A number that is the smaller, the larger the logit is, and for equal ones the lower the token.
uint64_t key_of(float logit, uint32_t token) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);  // of 0 and -0 neither is larger
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | token;
}

Candidate candidate_of(uint64_t key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  const uint32_t bits = ascending >> 31 ? ascending & 0x7fffffffu : ~ascending;
  return {static_cast<uint32_t>(key), std::bit_cast<float>(bits)};
}

// Sorts keys that lie in the order of their tokens, by three digits of their logits.
void sort_keys(std::vector<uint64_t>& keys, std::vector<uint64_t>& other) {
  if (keys.size() <= few_keys) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  other.resize(keys.size());
  for (int shift = 32; shift < 64; shift += 11) {
    constexpr uint64_t digits = 1 << 11;
    uint32_t ends[digits] = {};
    for (const uint64_t key : keys) ++ends[key >> shift & (digits - 1)];
    if (ends[keys[0] >> shift & (digits - 1)] == keys.size()) continue;
    uint32_t before = 0;
    for (uint32_t& end : ends) before += std::exchange(end, before);
    for (const uint64_t key : keys) other[ends[key >> shift & (digits - 1)]++] = key;
    keys.swap(other);
  }
}

template <typename Number>
Number sum_of(const Number (&numbers)[wide]) {
  return std::accumulate(numbers, numbers + wide, Number{});
}

}  // namespace

Totals::Totals(const Weighed& found)
    : mass(sum_of(found.masses)), gaps(sum_of(found.gaps)), count(sum_of(found.counts)) {}

// The largest logit, from which distances are, is at most sqrt(size) deviations off the mean: so
// little cancels out.
double deviation_of(const Moments& found) {
  const double count = sum_of(found.counts), mean = sum_of(found.sums) / count;
  return std::sqrt(std::max(0.0, sum_of(found.squares) / count - mean * mean));
}

bool LogitRow::begin(const SampledRow& row) {
  row_ = &row;
  has_mass_ = has_weighed_ = false;
  blocks_ = (row.size + logit_block - 1) / logit_block;
  maxima_ = row.maxima;
  changes_.clear();
  if (!is_here()) {
    find_known();
    if (!known_.empty()) largest_ = known_[0].logit;
    return true;
  }
  if (row.added.count + row.counts.count + row.said.count > 0) {
    heads_.assign(blocks_, -1);
    change(row.added, &Change::added);
    change(row.counts, &Change::count);
    for (const auto [token, amount] : repetitions_.find(row.said, row.repetitions)) {
      if (Change* change = changed(token)) change->taken = amount;
    }
  }
  const bool is_sound = apply_changes();
  largest_ = *std::max_element(maxima_, maxima_ + blocks_);
  return is_sound && std::isfinite(largest_);
}

void LogitRow::change(const Amounts& amounts, float Change::* part) {
  for (int64_t i = 0; i < amounts.count; ++i) {
    if (Change* change = changed(amounts.tokens[i])) change->*part = amounts.values[i];
  }
}

// The change of a token's logit, or null where it has none; valid until the next one is sought.
LogitRow::Change* LogitRow::changed(int64_t token) {
  if (token < 0 || token >= row_->size) return nullptr;
  int32_t& head = heads_[token / logit_block];
  int32_t at = head;
  while (at >= 0 && changes_[at].token != token) at = changes_[at].next;
  if (at < 0) {
    at = static_cast<int32_t>(changes_.size());
    changes_.push_back({static_cast<uint32_t>(token), head, 0, 0, 0, 0});
    head = at;
  }
  return &changes_[at];
}

// Computes the changed logits and the maxima of their blocks; returns whether all are numbers.
bool LogitRow::apply_changes() {
  if (changes_.empty() && row_->mask == nullptr) return true;
  const auto repetition = static_cast<float>(row_->repetition_penalty);
  const auto presence = static_cast<float>(row_->presence_penalty);
  const auto frequency = static_cast<float>(row_->frequency_penalty);
  bool is_sound = true;
  for (Change& change : changes_) {
    float logit = own(change.token) + change.added;
    if (change.count > 0) {
      logit = logit <= 0 ? logit * repetition : logit / repetition;
      logit -= change.count * frequency + presence;
    }
    change.value = logit - change.taken;
    is_sound &= change.value < __builtin_inff();
  }
  own_maxima_.assign(row_->maxima, row_->maxima + blocks_);
  for (int64_t index = 0; index < blocks_; ++index) {
    const uint64_t allowed = allowed_of(index);
    const bool is_changed = !changes_.empty() && heads_[index] >= 0;
    if (allowed == 0 && !is_changed) {
      own_maxima_[index] = no_logit;
    } else if (allowed != every_token || is_changed) {
      kernels().block_maxima(block(index), logit_block, &own_maxima_[index]);
    }
  }
  maxima_ = own_maxima_.data();
  return is_sound;
}

// The model's logit of a token, where it is allowed.
float LogitRow::own(int64_t token) const {
  return is_allowed(token) ? row_->logits[token] : no_logit;
}

bool LogitRow::is_allowed(int64_t token) const {
  return allowed_of(token / logit_block) >> token % logit_block & 1;
}

// Bit i where token i of a block is allowed.
uint64_t LogitRow::allowed_of(int64_t index) const {
  if (row_->mask == nullptr) return every_token;
  return index < row_->mask_words ? row_->mask[index] : 0;
}

// A block of logits, behind the row's end minus infinity; valid until the next one is read.
const float* LogitRow::block(int64_t index) {
  const int64_t first = index * logit_block;
  const float* logits = row_->logits + first;
  const int64_t count = std::min(logit_block, row_->size - first);
  int32_t change = changes_.empty() ? -1 : heads_[index];
  const uint64_t allowed = allowed_of(index);
  if (allowed == every_token && change < 0 && count == logit_block) return logits;
  if (count < logit_block) {
    std::fill(std::copy_n(logits, count, buffer_), buffer_ + logit_block, no_logit);
    logits = buffer_;
  }
  kernels().keep_allowed(logits, allowed, buffer_);
  for (; change >= 0; change = changes_[change].next) {
    buffer_[changes_[change].token - first] = changes_[change].value;
  }
  return buffer_;
}

template <typename Read>
void LogitRow::each_block(Read read) {
  for (int64_t index = 0; index < blocks_; ++index) read(block(index));
}

int64_t LogitRow::likeliest() {
  if (!is_here()) return known_[0].token;
  const int64_t index = std::max_element(maxima_, maxima_ + blocks_) - maxima_;
  const float* logits = block(index);
  return index * logit_block + (std::find(logits, logits + logit_block, largest_) - logits);
}

// A logit that about `count` tokens reach, at least as many if that is no more than half of the
// blocks.
float LogitRow::bound_of(int64_t count) {
  if (count >= size()) return least_logit;
  const bool by_maxima = count <= blocks_ / 2;
  if (by_maxima) {
    scratch_.assign(maxima_, maxima_ + blocks_);
  } else {
    scratch_.clear();
    const int64_t stride = std::max<int64_t>(1, size() / sampled_logits);
    for (int64_t token = 0; token < size(); token += stride) scratch_.push_back(own(token));
    count = std::max<int64_t>(1, count / stride);
  }
  std::nth_element(scratch_.begin(), scratch_.begin() + (count - 1), scratch_.end(),
                   std::greater<float>());
  return std::max(scratch_[count - 1], least_logit);
}

void LogitRow::find_known() {
  known_.clear();
  for (int64_t i = 0; i < row_->known; ++i) {
    const int64_t token = row_->known_tokens[i];
    if (is_allowed(token)) known_.push_back({static_cast<uint32_t>(token), row_->known_logits[i]});
  }
}

bool LogitRow::find(int64_t count, std::vector<Candidate>& found) {
  if (!is_here()) {
    found = known_;
    return row_->known >= size();
  }
  found.clear();
  const float bound = bound_of(count);
  keys_.clear();
  for (int64_t index = 0; index < blocks_; ++index) {
    if (!(maxima_[index] >= bound)) continue;
    const float* logits = block(index);
    uint64_t reaching = kernels().reaching(logits, bound);
    for (; reaching != 0; reaching &= reaching - 1) {
      const int place = std::countr_zero(reaching);
      keys_.push_back(key_of(logits[place], static_cast<uint32_t>(index * logit_block + place)));
    }
  }
  sort_keys(keys_, sorted_);
  for (const uint64_t key : keys_) found.push_back(candidate_of(key));
  return bound == least_logit;
}

double LogitRow::mass_of(int64_t first, int64_t end, const Weighing& by) {
  double masses[wide] = {};
  for (; first < end; ++first) kernels().add_mass(block(first), by, masses);
  return sum_of(masses);
}

double LogitRow::mass(const Weighing& by) {
  if (!has_mass_ || mass_by_ != by) {
    mass_ = mass_of(0, blocks_, by);
    mass_by_ = by;
    has_mass_ = true;
  }
  return mass_;
}

Totals LogitRow::totals(const Weighing& by) {
  if (!has_weighed_ || weighed_by_ != by) {
    weighed_ = {};
    each_block([&](const float* logits) { kernels().add_weighed(logits, by, weighed_); });
    weighed_by_ = by;
    has_weighed_ = true;
  }
  return Totals(weighed_);
}

double LogitRow::deviation() {
  Moments found;
  each_block([&](const float* logits) { kernels().add_moments(logits, largest_, found); });
  return deviation_of(found);
}

int64_t LogitRow::drawn(const Weighing& by, double chance) {
  masses_.clear();
  double total = 0;
  for (int64_t first = 0; first < blocks_; first += blocks_together) {
    masses_.push_back(total += mass_of(first, std::min(first + blocks_together, blocks_), by));
  }
  const double sought = chance * total;
  // The first whose cumulative weight exceeds what is sought; never one behind the last with any.
  const auto is_it = [=](double mass) { return mass > sought || mass >= total; };
  const int64_t group = std::find_if(masses_.begin(), masses_.end(), is_it) - masses_.begin();
  double mass = group > 0 ? masses_[group - 1] : 0.0;
  int64_t index = group * blocks_together;
  for (double more; !is_it(mass + (more = mass_of(index, index + 1, by))); ++index) mass += more;
  float weights[logit_block];
  kernels().weigh_block(block(index), by, weights);
  const auto reaches = [&](float weight) { return is_it(mass += double{weight}); };
  return index * logit_block + (std::find_if(weights, weights + logit_block, reaches) - weights);
}

}  // namespace rocmforge
