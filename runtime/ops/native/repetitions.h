// DRY: the tokens that would go on with a repetition of what was said, and their penalties.
#pragma once

#include <cstdint>
#include <vector>

namespace rocmforge {

// What a request said and its parameters, as Python lays them out (runtime/sampling/rows.py).
struct Said {
  const int32_t* tokens;
  int64_t count;
  int64_t limit;  // tokens of a repetition that count at most
};

struct RepetitionRules {
  int64_t allowed;  // tokens of a repetition without a penalty
  int64_t largest_exponent;
  double multiplier;
  double base;
  const int32_t* never;  // tokens without a penalty, ascending
  int64_t never_count;
};

// Owned by one thread.
class Repetitions {
 public:
  struct Penalty {
    uint32_t token;
    float amount;
  };

  // Valid until the next call.
  const std::vector<Penalty>& find(const Said& said, const RepetitionRules& rules);

 private:
  struct Found {
    int32_t token, length;
  };

  void find_lengths(const Said& said);

  std::vector<int32_t> lengths_;
  std::vector<Found> found_;
  std::vector<Penalty> penalties_;
};

}  // namespace rocmforge
