// The block formats by name and size; how a block is read is in kernels/block_formats.h.
#pragma once

#include <cstdint>
#include <string_view>

namespace rocmforge {

enum class BlockFormat { f32, f16, bf16, q4_0, q4_1, q8_0 };
constexpr int block_format_count = 6;

struct BlockShape {
  BlockFormat format;
  std::string_view name;  // as in GGMLQuantizationType
  int64_t columns;        // weights of one block
  int64_t bytes;
};

constexpr BlockShape block_shapes[block_format_count] = {
    {BlockFormat::f32, "F32", 1, 4},     {BlockFormat::f16, "F16", 1, 2},
    {BlockFormat::bf16, "BF16", 1, 2},   {BlockFormat::q4_0, "Q4_0", 32, 18},
    {BlockFormat::q4_1, "Q4_1", 32, 20}, {BlockFormat::q8_0, "Q8_0", 32, 34},
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
