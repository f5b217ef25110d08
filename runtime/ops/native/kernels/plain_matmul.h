// Weights in F32, F16 or BF16 times float32 activations.
//
// Each output is one vector of running sums over the columns, added up at the end in a fixed order:
// the same for every tile. Loops over a tile are unrolled by hand: else GCC may leave its sums in
// memory, at half the speed.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// Short rows are streams too short for the hardware to foresee: fetch the next ones meanwhile.
template <int weight_rows, typename Stored>
inline void prefetch_next_rows(const Stored* weights, int64_t columns, int64_t at) {
  constexpr int64_t reach = 32 << 10;
  constexpr int64_t values = weight_rows * lanes, line = 64 / sizeof(Stored);
  if (weight_rows * columns * static_cast<int64_t>(sizeof(Stored)) > reach) return;
  const Stored* next = weights + weight_rows * (columns + at);
  for (int64_t i = 0; i < values; i += line) __builtin_prefetch(next + i);
}

template <typename Format, int weight_rows, int rows>
inline void plain_tile(const MatMul& args, int64_t m, int64_t n) {
  using Stored = typename Format::Stored;
  const int64_t columns = args.columns;
  const auto* weights = reinterpret_cast<const Stored*>(args.weights) + n * columns;
  const float* x = args.x + m * columns;
  F32 totals[weight_rows][rows];
#pragma GCC unroll 8
  for (auto& of_weight : totals) {
#pragma GCC unroll 8
    for (F32& total : of_weight) total = broadcast(0.0f);
  }
  int64_t at = 0;
  for (; at + lanes <= columns; at += lanes) {
    if constexpr (rows == 1) prefetch_next_rows<weight_rows>(weights, columns, at);
    F32 values[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) values[i] = load(x + i * columns + at);
#pragma GCC unroll 8
    for (int w = 0; w < weight_rows; ++w) {
      const F32 weight = Format::load(weights + w * columns + at);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) totals[w][i] = fma(weight, values[i], totals[w][i]);
    }
  }
  if (at < columns) {
#pragma GCC unroll 8
    for (int w = 0; w < weight_rows; ++w) {
      Stored rest[lanes] = {};
      std::memcpy(rest, weights + w * columns + at,
                  static_cast<size_t>(columns - at) * sizeof(Stored));
      const F32 weight = Format::load(rest);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        totals[w][i] = fma(weight, load_first(x + i * columns + at, columns - at), totals[w][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int w = 0; w < weight_rows; ++w) {
    const float bias = args.bias == nullptr ? 0 : args.bias[n + w];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
      args.y[(m + i) * args.outputs + n + w] = sum(totals[w][i]) + bias;
  }
}

template <typename Format, int weight_rows, int rows>
inline void plain_tiles(const MatMul& args, int64_t m, int64_t end, int64_t n) {
  for (; m + rows <= end; m += rows) plain_tile<Format, weight_rows, rows>(args, m, n);
  if constexpr (rows > 1) plain_tiles<Format, weight_rows, rows / 2>(args, m, end, n);
}

template <typename Format>
inline void plain_matmul(const MatMul& args, Span rows, Span panels) {
  int64_t n = panels.begin * lanes;
  const int64_t limit = panels.end * lanes;
  const int64_t end = limit < args.outputs ? limit : args.outputs;
  for (; n + 4 <= end; n += 4) {
    plain_tiles<Format, 4, tile_rows / 2>(args, rows.begin, rows.end, n);
  }
  for (; n < end; ++n) plain_tiles<Format, 1, tile_rows / 2>(args, rows.begin, rows.end, n);
}

}  // namespace rocmforge::ROCMFORGE_LAYER
