// How the items of a call (rows, panels) are cut into units for the thread pool.
#pragma once

#include <algorithm>
#include <cstdint>

namespace rocmforge {

// Below this many multiply-adds or values a unit costs more to hand out than it gains.
constexpr int64_t least_unit_work = 1 << 14;
constexpr int64_t most_units = 64;

class WorkUnits {
 public:
  // `items` of `item_work` each; every unit begins at a multiple of `together` items.
  WorkUnits(int64_t items, int64_t item_work, int64_t together = 1) : items_(items) {
    const int64_t wanted = items * item_work / least_unit_work;
    const int64_t units =
        std::clamp<int64_t>(wanted, 1, std::min(most_units, std::max<int64_t>(items, 1)));
    size_ = ((items + units - 1) / units + together - 1) / together * together;
  }

  int64_t count() const { return items_ == 0 ? 0 : (items_ + size_ - 1) / size_; }
  int64_t begin(int64_t unit) const { return unit * size_; }
  int64_t end(int64_t unit) const { return std::min(items_, begin(unit) + size_); }

 private:
  int64_t items_;
  int64_t size_;
};

}  // namespace rocmforge
