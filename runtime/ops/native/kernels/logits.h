// What sampling asks of a whole row of logits.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

inline bool block_maxima(const float* logits, int64_t count, float* maxima) {
  const F32 least = broadcast(-__builtin_inff()), zero = broadcast(0.0f);
  const F32 lowest = broadcast(-__FLT_MAX__);
  // Stays 0 but for infinity and what is no number; minus infinity is raised first.
  F32 unsound = zero;
  for (int64_t first = 0; first < count; first += logit_block) {
    F32 most = least;
    if (first + logit_block <= count) {
      for (int64_t at = first; at < first + logit_block; at += lanes) {
        const F32 x = load(logits + at);
        most = maximum(x, most);
        unsound = fma(maximum(lowest, x), zero, unsound);
      }
    } else {
      for (int64_t at = first; at < count; ++at) {
        const F32 x = broadcast(logits[at]);
        most = maximum(x, most);
        unsound = fma(maximum(lowest, x), zero, unsound);
      }
    }
    *maxima++ = largest(most);
  }
  const float found = sum(unsound);
  return found == found;
}

// Bit i where logit i of a block reaches a bound.
inline uint64_t reaching(const float* block, float bound) {
  uint64_t found = 0;
  for (int at = 0; at < logit_block; at += lanes) {
    found |= uint64_t{lanes_not_less(load(block + at), broadcast(bound))} << at;
  }
  return found;
}

// In vectors whose width no instruction set changes, so that sums have the same bits on all.
inline Moments moments(const float* logits, int64_t count) {
  constexpr int width = 8, vectors = 2, group = vectors * width;
  constexpr int64_t chunk = 64 * group;
  using Floats = float __attribute__((vector_size(width * 4)));
  using Integers = int32_t __attribute__((vector_size(width * 4)));
  // About one of the logits, lest a large mean leave little of the squares.
  const float middle = count > 0 && logits[0] - logits[0] == 0.0f ? logits[0] : 0.0f;
  Integers counts[vectors]{};
  double sums[group] = {}, squares[group] = {};
  for (int64_t first = 0; first < count; first += chunk) {
    Floats sum[vectors]{}, square[vectors]{};
    const auto add = [&](const float* from) {
      for (int i = 0; i < vectors; ++i) {
        Floats x;
        std::memcpy(&x, from + i * width, sizeof x);
        const Integers kept = x > -__builtin_inff();
        const Floats distance = kept ? x - middle : Floats{};
        counts[i] -= kept;
        sum[i] += distance;
        square[i] += distance * distance;
      }
    };
    const int64_t end = first + chunk < count ? first + chunk : count;
    int64_t at = first;
    for (; at + group <= end; at += group) add(logits + at);
    if (at < end) {
      float rest[group];
      for (int i = 0; i < group; ++i) rest[i] = at + i < end ? logits[at + i] : -__builtin_inff();
      add(rest);
    }
    for (int i = 0; i < group; ++i) {
      sums[i] += double{sum[i / width][i % width]};
      squares[i] += double{square[i / width][i % width]};
    }
  }
  Moments total{};
  total.middle = middle;
  for (int i = 0; i < group; ++i) {
    total.count += counts[i / width][i % width];
    total.sum += sums[i];
    total.squares += squares[i];
  }
  return total;
}

}  // namespace rocmforge::ROCMFORGE_LAYER
