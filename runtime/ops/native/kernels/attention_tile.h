// What a few queries do with the keys and values of one tile: logits, softmax, weighted values.
//
// A softmax that runs over tiles (Dao et al., "FlashAttention", 2022), tiles counted from position
// 0. Queries that see the same keys go through together and share every load; each of them adds up
// in one order, whatever else is computed.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

constexpr int64_t tile_positions = 64;
static_assert(partition_positions % tile_positions == 0 && tile_positions % lanes == 0);

// Keys or vectors of values that each of the queries that go through together keeps in registers.
constexpr int keys_together = 4;
constexpr int most_vectors = 4;
static_assert(tile_queries <= lanes && tile_queries <= 4);

inline int64_t padded(int64_t width) { return (width + lanes - 1) / lanes * lanes; }
// The keys of a span, and those that share a vector with them.
inline Span whole_vectors(Span keys) { return {keys.begin / lanes * lanes, padded(keys.end)}; }

// One query's softmax so far: the sum of values weighted by e^(logit - largest) [width], the sum of
// these weights and the largest logit. Padded to whole vectors, so that none lies on two lines.
struct Softmax {
  float* memory;
  int64_t width;
  float* weighted() const { return memory; }
  float& denominator() const { return memory[width]; }
  float& largest_logit() const { return memory[width + 1]; }

  static int64_t size(int64_t width) { return width + lanes; }
};

// Where the rows of a tile are, whole vectors each: float32 in scratch memory, or float16 in the
// pages, where the rows of the next tile follow.
template <typename T>
struct Tile {
  const T* const* keys;
  const T* const* values;
  int64_t width;
};

inline F32 load_values(const float* p) { return load(p); }
inline F32 load_values(const Half* p) { return load_half(p); }

// Pages lie scattered: the hardware does not foresee the next one. Asking for one row of the next
// tile at a time keeps the memory busy while this tile is multiplied. Into the second-level cache:
// keys and values of two tiles would fill the first.
inline void fetch_ahead(const float* const*, int64_t) {}
inline void fetch_ahead(const Half* const* row, int64_t width) {
  constexpr int64_t line = 64 / sizeof(Half);
  for (int64_t at = 0; at < width; at += line) __builtin_prefetch(row[tile_positions] + at, 0, 2);
}

// Products with the keys of a span of whole vectors.
template <int queries, typename T>
inline void multiply_keys(const float* query, const Tile<T>& tile, Span keys,
                          float (&logits)[queries][tile_positions]) {
  for (int64_t first = keys.begin; first < keys.end; first += lanes) {
    F32 fours[queries][lanes / keys_together];
#pragma GCC unroll 8
    for (int part = 0; part < lanes / keys_together; ++part) {
      const T* const* rows = tile.keys + first + part * keys_together;
#pragma GCC unroll 8
      for (int i = 0; i < keys_together; ++i) fetch_ahead(rows + i, tile.width);
      F32 totals[queries][keys_together];
#pragma GCC unroll 8
      for (auto& of_query : totals) {
#pragma GCC unroll 8
        for (F32& total : of_query) total = broadcast(0.0f);
      }
      for (int64_t at = 0; at < tile.width; at += lanes) {
        F32 q[queries];
#pragma GCC unroll 8
        for (int n = 0; n < queries; ++n) q[n] = load(query + n * tile.width + at);
#pragma GCC unroll 8
        for (int i = 0; i < keys_together; ++i) {
          const F32 key = load_values(rows[i] + at);
#pragma GCC unroll 8
          for (int n = 0; n < queries; ++n) totals[n][i] = fma(q[n], key, totals[n][i]);
        }
      }
#pragma GCC unroll 8
      for (int n = 0; n < queries; ++n) fours[n][part] = sums_of_four(totals[n]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < queries; ++n) store(logits[n] + first, joined(fours[n]));
  }
}

// Caps the logits and puts -infinity outside the span; returns the largest, or `bound`.
inline float finish_logits(Span keys, float softcap, float bound, float* logits) {
  const Span whole = whole_vectors(keys);
  if (softcap > 0) {
    const F32 cap = broadcast(softcap);
    for (int64_t i = whole.begin; i < whole.end; i += lanes) {
      const F32 capped = hyperbolic_tangent(divide(load(logits + i), cap));
      store(logits + i, multiply(capped, cap));
    }
  }
  for (int64_t i = whole.begin; i < keys.begin; ++i) logits[i] = -__builtin_inff();
  for (int64_t i = keys.end; i < whole.end; ++i) logits[i] = -__builtin_inff();
  F32 top = broadcast(bound);
  for (int64_t i = whole.begin; i < whole.end; i += lanes) top = maximum(top, load(logits + i));
  return largest(top);
}

// Turns logits into e^(logit - top) and returns their sum.
inline float weights_of(Span keys, float top, float* logits) {
  const Span whole = whole_vectors(keys);
  F32 total = broadcast(0.0f);
  for (int64_t i = whole.begin; i < whole.end; i += lanes) {
    const F32 weight = exponential(subtract(load(logits + i), broadcast(top)));
    store(logits + i, weight);
    total = add(total, weight);
  }
  return sum(total);
}

// weighted = weighted * decay + sum of weights[key] * values[key], some vectors from `at` on.
template <int queries, int vectors, typename T>
inline void add_values(const float (&weights)[queries][tile_positions], const float* decay,
                       const Tile<T>& tile, Span keys, int64_t at,
                       const Softmax (&states)[queries]) {
  F32 totals[queries][vectors];
#pragma GCC unroll 8
  for (int n = 0; n < queries; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const F32 before = load(states[n].weighted() + at + v * lanes);
      totals[n][v] = multiply(before, broadcast(decay[n]));
    }
  }
  for (int64_t i = keys.begin; i < keys.end; ++i) {
    if (at == 0) fetch_ahead(tile.values + i, tile.width);
    F32 weight[queries];
#pragma GCC unroll 8
    for (int n = 0; n < queries; ++n) weight[n] = broadcast(weights[n][i]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const F32 value = load_values(tile.values[i] + at + v * lanes);
#pragma GCC unroll 8
      for (int n = 0; n < queries; ++n) totals[n][v] = fma(weight[n], value, totals[n][v]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < queries; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      store(states[n].weighted() + at + v * lanes, totals[n][v]);
    }
  }
}

// Takes the keys of a span of the tile into the softmax of some queries [queries, width].
template <int queries, typename T>
inline void add_keys(const float* query, const Softmax (&states)[queries], const Tile<T>& tile,
                     Span keys, float softcap) {
  float weights[queries][tile_positions];
  multiply_keys<queries>(query, tile, whole_vectors(keys), weights);

  float tops[queries], decay[lanes] = {};
  for (int n = 0; n < queries; ++n) {
    tops[n] = finish_logits(keys, softcap, states[n].largest_logit(), weights[n]);
    decay[n] = states[n].largest_logit() - tops[n];
  }
  store(decay, exponential(load(decay)));
  for (int n = 0; n < queries; ++n) {
    const float total = weights_of(keys, tops[n], weights[n]);
    states[n].denominator() = states[n].denominator() * decay[n] + total;
    states[n].largest_logit() = tops[n];
  }

  int64_t at = 0;
  for (; at + most_vectors * lanes <= tile.width; at += most_vectors * lanes) {
    add_values<queries, most_vectors>(weights, decay, tile, keys, at, states);
  }
  for (; at < tile.width; at += lanes) {
    add_values<queries, 1>(weights, decay, tile, keys, at, states);
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
