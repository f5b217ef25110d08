// Weights in F32, F16 or BF16 times float32 activations, read where the file has them.
//
// Each output is one vector of running sums over the columns, added up at the end in a fixed order:
// the same for every tile. Loops over a tile are unrolled by hand: else GCC may leave its sums in
// memory, at half the speed.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// Whether weights are read one row after the other for one row of x, which memory limits: the
// processor foresees one long stream, but not several short ones. A row's sums are one chain of
// additions, and of narrow vectors that chain is slower than the memory.
constexpr bool streams_rows = lanes >= 16;

// Asks for memory ahead, a little at each step of other work.
class Ahead {
 public:
  Ahead(const void* from, int64_t step)
      : next_(reinterpret_cast<uintptr_t>(from)),
        due_(next_),
        step_(static_cast<uintptr_t>(step)) {}

  void step() {
    constexpr uintptr_t line = 64;
    for (due_ += step_; next_ < due_; next_ += line) {
      __builtin_prefetch(reinterpret_cast<const void*>(next_), 0, 2);
    }
  }

 private:
  uintptr_t next_, due_, step_;
};

// Running sums of `weight_rows` rows from n on and `rows` rows of x, into totals[...][n % lanes].
template <typename Format, int weight_rows, int rows>
inline void plain_tile(const MatMul& args, int64_t m, int64_t n, Ahead ahead,
                       F32 (&totals)[rows][lanes]) {
  using Stored = typename Format::Stored;
  const int64_t columns = args.columns;
  const auto* weights = reinterpret_cast<const Stored*>(args.weights) + n * columns;
  const float* x = args.x + m * columns;
  F32 running[weight_rows][rows];
#pragma GCC unroll 8
  for (auto& of_weight : running) {
#pragma GCC unroll 8
    for (F32& total : of_weight) total = broadcast(0.0f);
  }
  int64_t at = 0;
  for (; at + lanes <= columns; at += lanes) {
    if constexpr (weight_rows > 1) ahead.step();
    F32 values[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) values[i] = load(x + i * columns + at);
#pragma GCC unroll 8
    for (int w = 0; w < weight_rows; ++w) {
      const F32 weight = Format::load(weights + w * columns + at);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) running[w][i] = fma(weight, values[i], running[w][i]);
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
        running[w][i] = fma(weight, load_first(x + i * columns + at, columns - at), running[w][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int w = 0; w < weight_rows; ++w) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) totals[i][n % lanes + w] = running[w][i];
  }
}

// `lanes` outputs from n on, of `rows` rows of x from m on; the tiles of all rows of x share in
// asking for the next panel.
template <typename Format, int weight_rows, int rows>
inline void plain_panel(const MatMul& args, Span all, int64_t m, int64_t n) {
  constexpr int64_t bytes = sizeof(typename Format::Stored);
  const int64_t end = n + lanes < args.outputs ? n + lanes : args.outputs;
  const int64_t count = all.end - all.begin;
  F32 totals[rows][lanes];
  int64_t at = n;
  for (; at + weight_rows <= end; at += weight_rows) {
    const int64_t asked = ((m - all.begin) * lanes + (at - n) * rows) * args.columns / count;
    const Ahead ahead(args.weights + ((n + lanes) * args.columns + asked) * bytes,
                      weight_rows * rows * lanes * bytes / count);
    plain_tile<Format, weight_rows, rows>(args, m, at, ahead, totals);
  }
  for (; at < end; ++at) plain_tile<Format, 1, rows>(args, m, at, {nullptr, 0}, totals);
  for (; at < n + lanes; ++at) {
    for (auto& of_row : totals) of_row[at % lanes] = broadcast(0.0f);
  }
  for (int i = 0; i < rows; ++i) {
    F32 fours[lanes / 4];
#pragma GCC unroll 4
    for (int four = 0; four < lanes / 4; ++four) fours[four] = sums_of_four(totals[i] + 4 * four);
    store_outputs(args, m + i, n, joined(fours));
  }
}

// Rows of x from m on in the largest tiles that fit.
template <typename Format, int weight_rows, int rows>
inline void plain_tiles(const MatMul& args, Span all, int64_t m, int64_t n) {
  for (; m + rows <= all.end; m += rows) plain_panel<Format, weight_rows, rows>(args, all, m, n);
  if constexpr (rows > 1) plain_tiles<Format, weight_rows, rows / 2>(args, all, m, n);
}

template <typename Format>
inline void plain_matmul(const MatMul& args, Span rows, Span panels) {
  for (int64_t n = panels.begin * lanes; n < panels.end * lanes; n += lanes) {
    if (streams_rows && rows.end - rows.begin == 1) {
      plain_panel<Format, 1, 1>(args, rows, rows.begin, n);
    } else {
      plain_tiles<Format, 4, tile_rows / 2>(args, rows, rows.begin, n);
    }
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
