// Weights as the GPU kernels read them: every kind of bits in a plane of its own, in which the
// lanes of a wave read adjacent words. runtime/ops/gpu/planes.py defines the same in NumPy.
#pragma once

#include <cstdint>
#include <string>

#include "../block_shapes.h"

namespace rocmforge::hip {

// Columns that share a scale of their own: K / part_columns parts of a row.
constexpr int64_t part_columns = 32;
constexpr int plane_count = 4;  // codes, their high bits, sub-scales and sub-minimums, units

// Bytes of a row in each plane, and what a kernel needs to know of the format.
struct PlaneLayout {
  std::string name;  // of the kernels' variant: several formats share one
  int64_t row_bytes[plane_count];
  int64_t table[2];  // 16 values of int8, the values of 4-bit codes in some layouts
  float unit_factor;
  int32_t zero;
};

// Columns are whole blocks of the format and whole parts.
PlaneLayout plane_layout(BlockFormat format, int64_t columns);

// Rewrites rows as in the file; planes[i] has `rows` times row_bytes[i] bytes.
void split_into_planes(BlockFormat format, const uint8_t* blocks, int64_t rows, int64_t columns,
                       uint8_t* const planes[plane_count]);

}  // namespace rocmforge::hip
