// Weights in integer block formats times activations rounded to 8 bits.
//
// The sum inside a block is exact in integers, and blocks are added in order by one chain of fused
// multiply-adds: so every path, tile and instruction set gives the same bits.
//   y = sum over blocks of fma(dot, weight scale * activation scale) + sum of fma(minimum, sum)
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

inline void quantize(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  const int64_t blocks = columns / activation_block;
  for (int64_t b = 0; b < blocks; ++b, x += activation_block) {
    F32 bound = broadcast(0.0f);
    for (int i = 0; i < activation_block; i += lanes) bound = maximum(bound, absolute(load(x + i)));
    float absmax = largest(bound);
    if (absmax < 1e-30f) absmax = 0;
    const float inverse = absmax == 0 ? 0 : 127.0f / absmax;
    int8_t* codes = out.codes + row * columns + b * activation_block;
    int32_t total = 0;
    for (int i = 0; i < activation_block; ++i) {
      // Adding 1.5 * 2^23 rounds to even and leaves the integer in the low bits.
      const int32_t code =
          static_cast<int32_t>(bits_of_float(x[i] * inverse + 0x1.8p23f) - 0x4b400000u);
      codes[i] = static_cast<int8_t>(code);
      total += codes[i];
    }
    const float scale = absmax / 127.0f;
    out.scales[row * blocks + b] = scale;
    out.sums[row * blocks + b] = scale * static_cast<float>(total);
    out.code_sums[row * blocks + b] = total;
  }
}

template <typename Format>
constexpr int offset_of_codes = Format::zero_point + (Format::is_signed ? signed_offset : 0);

// The running sums of `lanes` outputs.
template <typename Format>
struct Accumulator {
  F32 scaled = broadcast(0.0f);
  F32 lifted = broadcast(0.0f);

  void add_block(I32 dots, int32_t code_sum, F32 scales, float x_scale, F32 minimums, float x_sum) {
    if constexpr (offset_of_codes<Format> != 0) {
      dots = subtract(dots, broadcast(offset_of_codes<Format> * code_sum));
    }
    scaled = fma(to_float(dots), multiply(scales, broadcast(x_scale)), scaled);
    if constexpr (Format::has_minimum) lifted = fma(minimums, broadcast(x_sum), lifted);
  }

  F32 total() const {
    if constexpr (Format::has_minimum) return add(scaled, lifted);
    return scaled;
  }
};

// One output: for the last weight rows, which are no whole panel.
template <typename Format>
inline void single(const MatMul& args, int64_t m, int64_t n) {
  const int64_t blocks = args.columns / activation_block;
  const uint8_t* block = args.weights + n * args.row_bytes;
  const QuantizedRows& x = args.quantized;
  Accumulator<Format> accumulator;
  for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
    const Codes activations = load_codes(x.codes + m * args.columns + b * activation_block);
    const int64_t at = m * blocks + b;
    accumulator.add_block(broadcast(sum(dot<Format>(Format::codes(block), activations))),
                          x.code_sums[at], Format::scales(block, 0), x.scales[at],
                          Format::minimums(block, 0), x.sums[at]);
  }
  F32 total = accumulator.total();
  if (args.bias != nullptr) total = add(total, broadcast(args.bias[n]));
  store_first(args.y + m * args.outputs + n, total, 1);
}

inline void store_outputs(const MatMul& args, int64_t m, int64_t n, F32 total) {
  if (args.bias != nullptr) total = add(total, load(args.bias + n));
  store(args.y + m * args.outputs + n, total);
}

// Short rows are streams too short for the hardware to foresee: fetch the next panel meanwhile.
template <typename Format>
inline void prefetch_next_panel(const MatMul& args, const uint8_t* panel, int64_t b) {
  constexpr int64_t reach = 32 << 10;
  constexpr int64_t bytes = lanes * Format::shape.bytes, line = 64;
  if (lanes * args.row_bytes > reach) return;
  const uint8_t* next = panel + lanes * args.row_bytes + b * bytes;
  for (int64_t at = 0; at < bytes; at += line) __builtin_prefetch(next + at);
}

// One row of x (decode): the panel's blocks go from memory to registers once.
template <typename Format>
inline void panel_by_row(const MatMul& args, int64_t m, int64_t n) {
  const int64_t blocks = args.columns / activation_block;
  const uint8_t* panel = args.weights + n * args.row_bytes;
  const uint8_t* block = panel;
  const QuantizedRows& x = args.quantized;
  const int8_t* codes = x.codes + m * args.columns;
  Accumulator<Format> accumulator;
  for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
    prefetch_next_panel<Format>(args, panel, b);
    const Codes activations = load_codes(codes + b * activation_block);
    Products products[lanes];
    for (int i = 0; i < lanes; ++i) {
      products[i] = dot<Format>(Format::codes(block + i * args.row_bytes), activations);
    }
    const int64_t at = m * blocks + b;
    accumulator.add_block(sums(products), x.code_sums[at], Format::scales(block, args.row_bytes),
                          x.scales[at], Format::minimums(block, args.row_bytes), x.sums[at]);
  }
  store_outputs(args, m, n, accumulator.total());
}

// A panel unpacked for many rows of x: codes [blocks][32 * lanes], scales and minimums
// [blocks][lanes].
struct Panel {
  uint8_t* codes;
  float* scales;
  float* minimums;

  static int64_t bytes(int64_t blocks) { return blocks * lanes * (32 + 2 * 4); }
  Panel(void* scratch, int64_t blocks)
      : codes(static_cast<uint8_t*>(scratch)),
        scales(reinterpret_cast<float*>(codes + blocks * lanes * 32)),
        minimums(scales + blocks * lanes) {}
};

template <typename Format>
inline void unpack(const MatMul& args, int64_t n, const Panel& panel) {
  const int64_t blocks = args.columns / activation_block;
  const uint8_t* block = args.weights + n * args.row_bytes;
  for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
    Codes rows[lanes];
    for (int i = 0; i < lanes; ++i) rows[i] = Format::codes(block + i * args.row_bytes);
    store_panel<Format>(rows, panel.codes + b * 32 * lanes);
    store(panel.scales + b * lanes, Format::scales(block, args.row_bytes));
    if constexpr (Format::has_minimum) {
      store(panel.minimums + b * lanes, Format::minimums(block, args.row_bytes));
    }
  }
}

template <typename Format, int rows>
inline void tile(const MatMul& args, int64_t m, int64_t n, const Panel& panel) {
  const int64_t blocks = args.columns / activation_block;
  const QuantizedRows& x = args.quantized;
  const int8_t* codes = x.codes + m * args.columns;
  Accumulator<Format> accumulators[rows];
  for (int64_t b = 0; b < blocks; ++b) {
    I32 dots[rows];
    dot_panel<Format, rows>(panel.codes + b * 32 * lanes, codes + b * activation_block,
                            args.columns, dots);
    const F32 scales = load(panel.scales + b * lanes);
    F32 minimums = scales;
    if constexpr (Format::has_minimum) minimums = load(panel.minimums + b * lanes);
    for (int i = 0; i < rows; ++i) {
      const int64_t at = (m + i) * blocks + b;
      accumulators[i].add_block(dots[i], x.code_sums[at], scales, x.scales[at], minimums,
                                x.sums[at]);
    }
  }
  for (int i = 0; i < rows; ++i) store_outputs(args, m + i, n, accumulators[i].total());
}

// Rows [m, end) in the largest tiles that fit.
template <typename Format, int rows>
inline void tiles(const MatMul& args, int64_t m, int64_t end, int64_t n, const Panel& panel) {
  for (; m + rows <= end; m += rows) tile<Format, rows>(args, m, n, panel);
  if constexpr (rows > 1) tiles<Format, rows / 2>(args, m, end, n, panel);
}

template <typename Format>
inline void integer_matmul(const MatMul& args, Span rows, Span panels, void* scratch) {
  const Panel panel(scratch, args.columns / activation_block);
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    const int64_t n = p * lanes;
    if (n + lanes > args.outputs) {
      for (int64_t m = rows.begin; m < rows.end; ++m) {
        for (int64_t last = n; last < args.outputs; ++last) single<Format>(args, m, last);
      }
    } else if (rows.end - rows.begin == 1) {
      panel_by_row<Format>(args, rows.begin, n);
    } else {
      unpack<Format>(args, n, panel);
      tiles<Format, tile_rows>(args, rows.begin, rows.end, n, panel);
    }
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
