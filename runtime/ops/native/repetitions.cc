#include "repetitions.h"

#include <algorithm>
#include <cmath>

namespace rocmforge {

// Of each distance from the end, how many tokens up to there are those at the end (Gusfield's Z
// algorithm on what was said backwards).
void Repetitions::find_lengths(const Said& said) {
  const int64_t count = said.count;
  const int32_t* last = said.tokens + count - 1;
  lengths_.resize(count);
  int64_t left = 0, right = 0;
  for (int64_t place = 1; place < count; ++place) {
    int64_t length = 0;
    if (place < right) length = std::min<int64_t>(right - place, lengths_[place - left]);
    while (place + length < count && last[-length] == last[-place - length]) ++length;
    lengths_[place] = static_cast<int32_t>(length);
    if (place + length > right) {
      left = place;
      right = place + length;
    }
  }
}

const std::vector<Repetitions::Penalty>& Repetitions::find(const Said& said,
                                                           const RepetitionRules& rules) {
  penalties_.clear();
  found_.clear();
  const int64_t limit = std::min(said.limit, said.count);
  if (said.count <= rules.allowed || limit < rules.allowed) return penalties_;
  find_lengths(said);
  for (int64_t place = 1; place < said.count; ++place) {
    const auto length = static_cast<int32_t>(std::min<int64_t>(lengths_[place], limit));
    if (length >= rules.allowed) found_.push_back({said.tokens[said.count - place], length});
  }
  // Of each token the longest.
  std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
    return a.token != b.token ? a.token < b.token : a.length > b.length;
  });
  for (size_t i = 0; i < found_.size(); ++i) {
    const auto [token, length] = found_[i];
    if (i > 0 && found_[i - 1].token == token) continue;
    if (std::binary_search(rules.never, rules.never + rules.never_count, token)) continue;
    const int64_t exponent = std::min(length - rules.allowed, rules.largest_exponent);
    const double power = std::pow(rules.base, static_cast<double>(exponent));
    penalties_.push_back(
        {static_cast<uint32_t>(token), static_cast<float>(rules.multiplier * power)});
  }
  return penalties_;
}

}  // namespace rocmforge
