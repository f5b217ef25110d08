// The block formats by name and size; how a block is read is in kernels/block_formats.h.
#pragma once

#include <cstdint>
#include <string_view>

namespace rocmforge {

enum class BlockFormat {
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  tq1_0,
  tq2_0,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  iq1_s,
  iq1_m,
  nvfp4,
  q1_0,
};
constexpr int block_format_count = 27;

struct BlockShape {
  BlockFormat format;
  std::string_view name;  // as in GGMLQuantizationType
  int64_t columns;        // weights of one block
  int64_t bytes;
};

constexpr BlockShape block_shapes[block_format_count] = {
    {BlockFormat::f32, "F32", 1, 4},
    {BlockFormat::f16, "F16", 1, 2},
    {BlockFormat::bf16, "BF16", 1, 2},
    {BlockFormat::q4_0, "Q4_0", 32, 18},
    {BlockFormat::q4_1, "Q4_1", 32, 20},
    {BlockFormat::q5_0, "Q5_0", 32, 22},
    {BlockFormat::q5_1, "Q5_1", 32, 24},
    {BlockFormat::q8_0, "Q8_0", 32, 34},
    {BlockFormat::q2_k, "Q2_K", 256, 84},
    {BlockFormat::q3_k, "Q3_K", 256, 110},
    {BlockFormat::q4_k, "Q4_K", 256, 144},
    {BlockFormat::q5_k, "Q5_K", 256, 176},
    {BlockFormat::q6_k, "Q6_K", 256, 210},
    {BlockFormat::iq4_nl, "IQ4_NL", 32, 18},
    {BlockFormat::iq4_xs, "IQ4_XS", 256, 136},
    {BlockFormat::mxfp4, "MXFP4", 32, 17},
    {BlockFormat::tq1_0, "TQ1_0", 256, 54},
    {BlockFormat::tq2_0, "TQ2_0", 256, 66},
    {BlockFormat::iq2_xxs, "IQ2_XXS", 256, 66},
    {BlockFormat::iq2_xs, "IQ2_XS", 256, 74},
    {BlockFormat::iq2_s, "IQ2_S", 256, 82},
    {BlockFormat::iq3_xxs, "IQ3_XXS", 256, 98},
    {BlockFormat::iq3_s, "IQ3_S", 256, 110},
    {BlockFormat::iq1_s, "IQ1_S", 256, 50},
    {BlockFormat::iq1_m, "IQ1_M", 256, 56},
    {BlockFormat::nvfp4, "NVFP4", 64, 36},
    {BlockFormat::q1_0, "Q1_0", 128, 18},
};

constexpr const BlockShape& block_shape(BlockFormat format) {
  return block_shapes[static_cast<int>(format)];
}

// Null for a name that is unknown.
constexpr const BlockShape* find_block_shape(std::string_view name) {
  for (const BlockShape& shape : block_shapes) {
    if (shape.name == name) return &shape;
  }
  return nullptr;
}

}  // namespace rocmforge
