// Vector arithmetic that several kernels share, and the kernels that work value by value.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// The first count < lanes values at p, then zeros.
inline F32 load_first(const float* p, int64_t count) {
  float values[lanes] = {};
  std::memcpy(values, p, static_cast<size_t>(count) * sizeof(float));
  return load(values);
}
inline void store_first(float* p, F32 x, int64_t count) {
  float values[lanes];
  store(values, x);
  std::memcpy(p, values, static_cast<size_t>(count) * sizeof(float));
}

// Calls body(offset, count) for each vector of `columns` values; count < lanes only in the last.
template <typename Body>
inline void each_vector(int64_t columns, const Body& body) {
  int64_t offset = 0;
  for (; offset + lanes <= columns; offset += lanes) body(offset, int64_t{lanes});
  if (offset < columns) body(offset, columns - offset);
}
inline F32 load_some(const float* p, int64_t count) {
  return count == lanes ? load(p) : load_first(p, count);
}
inline void store_some(float* p, F32 x, int64_t count) {
  if (count == lanes) {
    store(p, x);
  } else {
    store_first(p, x, count);
  }
}

// e^x to 2 ulp, 0 below -87 and 1.6e38 above 88: x = n ln 2 + r, e^r by its Taylor series to r^7,
// 2^n by the exponent bits.
inline F32 exponential(F32 x) {
  const F32 lowest = broadcast(-87.0f), highest = broadcast(88.0f);
  const F32 bounded = minimum(highest, maximum(lowest, x));
  const F32 n = round_to_even(multiply(bounded, broadcast(1.44269504f)));
  // ln 2 in two parts, the first with few bits, so that n * part is exact.
  F32 r = fma(n, broadcast(-0.693359375f), bounded);
  r = fma(n, broadcast(2.12194440e-4f), r);
  F32 p = broadcast(1.0f / 5040);
  p = fma(p, r, broadcast(1.0f / 720));
  p = fma(p, r, broadcast(1.0f / 120));
  p = fma(p, r, broadcast(1.0f / 24));
  p = fma(p, r, broadcast(1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return zero_where_less(x, lowest, multiply(p, power_of_two(n)));
}

// tanh x = 1 - 2 / (e^2x + 1); the error is absolute, 1e-7.
inline F32 hyperbolic_tangent(F32 x) {
  const F32 one = broadcast(1.0f);
  const F32 denominator = add(exponential(add(x, x)), one);
  return subtract(one, divide(broadcast(2.0f), denominator));
}

// x / (1 + e^-y)
inline F32 gated_by_sigmoid(F32 x, F32 y) {
  const F32 power = exponential(subtract(broadcast(0.0f), y));
  return divide(x, add(broadcast(1.0f), power));
}

inline void silu(const float* gate, const float* up, int64_t count, float* y) {
  each_vector(count, [=](int64_t at, int64_t some) {
    const F32 x = load_some(gate + at, some);
    store_some(y + at, multiply(gated_by_sigmoid(x, x), load_some(up + at, some)), some);
  });
}

// x / 2 * (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
inline void gelu(const float* gate, const float* up, int64_t count, float* y) {
  each_vector(count, [=](int64_t at, int64_t some) {
    const F32 x = load_some(gate + at, some);
    const F32 cubic = fma(multiply(x, x), broadcast(0.044715f), broadcast(1.0f));
    const F32 u = multiply(multiply(x, cubic), broadcast(2 * 0.7978845608f));
    store_some(y + at, multiply(gated_by_sigmoid(x, u), load_some(up + at, some)), some);
  });
}

inline void rms_norm(const float* x, const float* residual, const float* weight, int64_t columns,
                     int64_t group, float epsilon, float* y, float* sum_out) {
  for (int64_t first = 0; first < columns; first += group) {
    F32 squares = broadcast(0.0f);
    each_vector(group, [&](int64_t at, int64_t some) {
      F32 total = load_some(x + first + at, some);
      if (residual != nullptr) total = add(total, load_some(residual + first + at, some));
      if (sum_out != nullptr) store_some(sum_out + first + at, total, some);
      store_some(y + first + at, total, some);
      squares = fma(total, total, squares);
    });
    const float mean = sum(squares) / static_cast<float>(group);
    const F32 scale = broadcast(1.0f / __builtin_sqrtf(mean + epsilon));
    each_vector(group, [&](int64_t at, int64_t some) {
      const F32 normed = multiply(load_some(y + first + at, some), scale);
      store_some(y + first + at, multiply(normed, load_some(weight + at, some)), some);
    });
  }
}

inline void layer_norm(const float* x, const float* residual, const float* weight, int64_t columns,
                       float epsilon, float* y, float* sum_out) {
  F32 totals = broadcast(0.0f);
  each_vector(columns, [&](int64_t at, int64_t some) {
    F32 total = load_some(x + at, some);
    if (residual != nullptr) total = add(total, load_some(residual + at, some));
    if (sum_out != nullptr) store_some(sum_out + at, total, some);
    store_some(y + at, total, some);
    totals = add(totals, total);
  });
  const F32 mean = broadcast(sum(totals) / static_cast<float>(columns));
  F32 squares = broadcast(0.0f);
  each_vector(columns, [&](int64_t at, int64_t some) {
    store_some(y + at, subtract(load_some(y + at, some), mean), some);
    // Loaded again, since after the last column there must be zeros.
    const F32 distance = load_some(y + at, some);
    squares = fma(distance, distance, squares);
  });
  const float variance = sum(squares) / static_cast<float>(columns);
  const F32 scale = broadcast(1.0f / __builtin_sqrtf(variance + epsilon));
  each_vector(columns, [&](int64_t at, int64_t some) {
    const F32 normed = multiply(load_some(y + at, some), scale);
    store_some(y + at, multiply(normed, load_some(weight + at, some)), some);
  });
}

inline void to_half(const float* x, int64_t count, Half* out) {
  each_vector(count, [=](int64_t at, int64_t some) {
    if (some == lanes) {
      store_half(out + at, load(x + at));
    } else {
      Half values[lanes];
      store_half(values, load_first(x + at, some));
      std::memcpy(out + at, values, static_cast<size_t>(some) * sizeof(Half));
    }
  });
}

// Pairs (i * step, i * step + distance); loops over constants, so that they become vectors.
template <bool adjacent>
inline void rotate_pairs(const float* __restrict x, const Rotation& rotation,
                         float* __restrict out) {
  const int64_t half = rotation.half;
  const int64_t step = adjacent ? 2 : 1, distance = adjacent ? 1 : half;
  const float* __restrict cosines = rotation.cosines, * __restrict sines = rotation.sines;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i * step], b = x[i * step + distance];
    out[i * step] = a * cosines[i] - b * sines[i];
    out[i * step + distance] = a * sines[i] + b * cosines[i];
  }
}

inline void rotate(const float* x, const Rotation& rotation, int64_t heads, int64_t head_dim,
                   float* out) {
  for (int64_t head = 0; head < heads; ++head, x += head_dim, out += head_dim) {
    if (rotation.adjacent) {
      rotate_pairs<true>(x, rotation, out);
    } else {
      rotate_pairs<false>(x, rotation, out);
    }
    for (int64_t i = 2 * rotation.half; i < head_dim; ++i) out[i] = x[i];
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
