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

// Whatever the order in which multiples of this are added, the sum is exact in float64.
constexpr float weight_step = 0x1p-34f;

// Of exp((logit - largest) / divisor), at most 1, the nearest multiple of the step.
inline F32 weight_of(F32 distance) {
  // Numbers from here to twice this are as far apart as the step; larger ones are multiples of it.
  const F32 coarse = broadcast(weight_step * 0x1p23f);
  const F32 weight = exponential(distance);
  const F32 small = subtract(add(minimum(weight, coarse), coarse), coarse);
  return add(small, subtract(maximum(weight, coarse), coarse));
}

inline F32 distance_of(F32 logit, const Weighing& by) {
  const F32 distance = minimum(subtract(logit, broadcast(by.largest)), broadcast(0.0f));
  return by.divisor == 1.0f ? distance : divide(distance, broadcast(by.divisor));
}

inline void weigh_block(const float* block, const Weighing& by, float* weights) {
  const F32 floor = broadcast(by.floor);
  for (int at = 0; at < logit_block; at += lanes) {
    const F32 logit = load(block + at);
    store(weights + at, zero_where_less(logit, floor, weight_of(distance_of(logit, by))));
  }
}

using Floats = float __attribute__((vector_size(wide * 4)));
using Integers = int32_t __attribute__((vector_size(wide * 4)));
using Doubles = double __attribute__((vector_size(wide * 8)));

inline void load(const float* from, Floats& to) { std::memcpy(&to, from, sizeof to); }
inline void load(const float* from, Doubles& to) {
  Floats found;
  load(from, found);
  to = __builtin_convertvector(found, Doubles);
}

inline void keep_allowed(const float* block, uint64_t allowed, float* kept) {
  static_assert(wide == 8);
  constexpr Integers bits = {1, 2, 4, 8, 16, 32, 64, 128};
  for (int at = 0; at < logit_block; at += wide, allowed >>= wide) {
    Floats logits;
    load(block + at, logits);
    const Integers is_allowed = (bits & (Integers{} + static_cast<int32_t>(allowed & 255))) != 0;
    logits = is_allowed ? logits : Floats{} - __builtin_inff();
    std::memcpy(kept + at, &logits, sizeof logits);
  }
}

// Adds to numbers in memory.
template <typename Vector>
inline void add_to(void* sums, const Vector& more) {
  Vector sum;
  std::memcpy(&sum, sums, sizeof sum);
  sum += more;
  std::memcpy(sums, &sum, sizeof sum);
}

inline void add_mass(const float* block, const Weighing& by, double* masses) {
  float weights[logit_block];
  weigh_block(block, by, weights);
  Doubles even{}, odd{}, weight;
  for (int at = 0; at < logit_block; at += 2 * wide) {
    load(weights + at, weight);
    even += weight;
    load(weights + at + wide, weight);
    odd += weight;
  }
  add_to(masses, even + odd);
}

inline void add_weighed(const float* block, const Weighing& by, Weighed& found) {
  // Beyond this a weight is 0.
  const F32 far = broadcast(-100.0f);
  float weights[logit_block], distances[logit_block];
  weigh_block(block, by, weights);
  for (int at = 0; at < logit_block; at += lanes) {
    store(distances + at, maximum(distance_of(load(block + at), by), far));
  }
  // Adding this and taking it off again rounds to a multiple of the step.
  constexpr double coarse = double{weight_step} * 0x1.8p52;
  Doubles masses{}, gaps{}, weight, distance;
  Integers counts{};
  Floats logits;
  for (int at = 0; at < logit_block; at += wide) {
    load(weights + at, weight);
    load(distances + at, distance);
    load(block + at, logits);
    masses += weight;
    gaps += weight * -distance + coarse - coarse;
    counts -= logits >= by.floor;
  }
  add_to(found.masses, masses);
  add_to(found.gaps, gaps);
  add_to(found.counts, counts);
}

inline void add_moments(const float* block, float reference, Moments& found) {
  // A block's sums have eight terms in each lane: float32 holds them well enough.
  Floats sums{}, squares{};
  Integers counts{};
  Floats logits;
  for (int at = 0; at < logit_block; at += wide) {
    load(block + at, logits);
    const Integers is_there = logits > -__builtin_inff();
    const Floats distance = (is_there ? logits : Floats{} + reference) - reference;
    counts -= is_there;
    sums += distance;
    squares += distance * distance;
  }
  add_to(found.sums, __builtin_convertvector(sums, Doubles));
  add_to(found.squares, __builtin_convertvector(squares, Doubles));
  add_to(found.counts, counts);
}

}  // namespace rocmforge::ROCMFORGE_LAYER
