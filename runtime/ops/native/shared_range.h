// The units of one parallel loop, handed out so that each thread walks along a range of its own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace rocmforge {

// The first thread takes units from the beginning; a thread without work takes the second half
// of the longest range. So a thread's weights follow each other in memory, what it fetched ahead is
// its own, and a late thread has its work taken off all the same. Any thread may call `next`.
class SharedRange {
 public:
  explicit SharedRange(int64_t units) : call_(++calls) { ranges_[0] = {0, units}; }

  // The next unit. Must be called once for each unit.
  int64_t next() {
    thread_local uint64_t call = 0;
    thread_local size_t own = 0;
    while (busy_.test_and_set(std::memory_order_acquire)) {
    }
    if (call != call_) {
      call = call_;
      own = threads_ < most_ranges ? threads_ : most_ranges - 1;
      if (own == threads_ && own > 0) ranges_[own] = {0, 0};
      threads_ = own + 1;
    }
    Range& mine = ranges_[own];
    if (mine.next == mine.end) take_over(mine);
    const int64_t unit = mine.next++;
    busy_.clear(std::memory_order_release);
    return unit;
  }

 private:
  struct Range {
    int64_t next, end;
    int64_t left() const { return end - next; }
  };
  static constexpr size_t most_ranges = 64;

  void take_over(Range& mine) {
    Range* longest = &ranges_[0];
    for (size_t i = 1; i < threads_; ++i) {
      if (ranges_[i].left() > longest->left()) longest = &ranges_[i];
    }
    const int64_t middle = longest->end - (longest->left() + 1) / 2;
    mine = {middle, longest->end};
    longest->end = middle;
  }

  static inline std::atomic<uint64_t> calls = 0;
  const uint64_t call_;
  std::atomic_flag busy_;
  size_t threads_ = 0;
  std::array<Range, most_ranges> ranges_;  // those of the threads that came
};

}  // namespace rocmforge
