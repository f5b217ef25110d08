// How each GGML block format is read: integer codes, a scale and perhaps a minimum per 32 weights.
//
// weight = scale * (code - zero_point) + minimum. A further format is one more struct here, one row
// in block_shapes.h, and one case in `with_format`. The layouts are ggml's (ggml-common.h).
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

struct Q4_0 {
  static constexpr BlockShape shape = block_shape(BlockFormat::q4_0);
  static constexpr bool is_signed = false;
  static constexpr bool has_minimum = false;
  static constexpr int largest_code = 15;
  static constexpr int zero_point = 8;

  static Codes codes(const uint8_t* block) { return load_nibbles(block + 2); }
  // Of the blocks at block + i * stride, one per lane.
  static F32 scales(const uint8_t* block, int64_t stride) { return gather_half(block, stride); }
  static F32 minimums(const uint8_t*, int64_t) { return broadcast(0.0f); }
};

struct Q4_1 {
  static constexpr BlockShape shape = block_shape(BlockFormat::q4_1);
  static constexpr bool is_signed = false;
  static constexpr bool has_minimum = true;
  static constexpr int largest_code = 15;
  static constexpr int zero_point = 0;

  static Codes codes(const uint8_t* block) { return load_nibbles(block + 4); }
  static F32 scales(const uint8_t* block, int64_t stride) { return gather_half(block, stride); }
  static F32 minimums(const uint8_t* block, int64_t stride) {
    return gather_half(block + 2, stride);
  }
};

struct Q8_0 {
  static constexpr BlockShape shape = block_shape(BlockFormat::q8_0);
  static constexpr bool is_signed = true;
  static constexpr bool has_minimum = false;
  static constexpr int largest_code = 128;
  static constexpr int zero_point = 0;

  static Codes codes(const uint8_t* block) { return load_codes(block + 2); }
  static F32 scales(const uint8_t* block, int64_t stride) { return gather_half(block, stride); }
  static F32 minimums(const uint8_t*, int64_t) { return broadcast(0.0f); }
};

// Formats that are plain numbers: `load` reads `lanes` of them as float32.
struct PlainF32 {
  using Stored = float;
  static F32 load(const Stored* p) { return ROCMFORGE_LAYER::load(p); }
};
struct PlainF16 {
  using Stored = Half;
  static F32 load(const Stored* p) { return load_half(p); }
};
struct PlainBF16 {
  using Stored = Half;
  static F32 load(const Stored* p) { return load_bfloat(p); }
};

// Calls use.template operator()<Format>() with the struct of the format.
template <typename IntegerUse, typename PlainUse>
inline auto with_format(BlockFormat format, IntegerUse integer, PlainUse plain) {
  switch (format) {
    case BlockFormat::q4_0:
      return integer.template operator()<Q4_0>();
    case BlockFormat::q4_1:
      return integer.template operator()<Q4_1>();
    case BlockFormat::q8_0:
      return integer.template operator()<Q8_0>();
    case BlockFormat::f16:
      return plain.template operator()<PlainF16>();
    case BlockFormat::bf16:
      return plain.template operator()<PlainBF16>();
    case BlockFormat::f32:
      break;
  }
  return plain.template operator()<PlainF32>();
}

}  // namespace rocmforge::ROCMFORGE_LAYER
