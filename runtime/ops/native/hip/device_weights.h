// A weight matrix in GPU memory, repacked once from the file's blocks.
#pragma once

#include <memory>

#include "device_memory.h"
#include "planes.h"

namespace rocmforge::hip {

// Immutable; shared by the operators that read the same matrix.
class DeviceWeights {
 public:
  // Of rows as in the file in the host's memory, of which nothing is kept. Throws Failure for
  // columns that are not whole parts, and where there is too little GPU memory.
  static std::shared_ptr<const DeviceWeights> upload(const char* op, BlockFormat format,
                                                     const uint8_t* blocks, int64_t rows,
                                                     int64_t columns);

  DeviceWeights(const char* op, BlockFormat format, const uint8_t* blocks, int64_t rows,
                int64_t columns);

  const PlaneLayout& layout() const { return layout_; }
  // Null where the layout has none of that kind.
  const void* plane(int i) const {
    return layout_.row_bytes[i] == 0 ? nullptr : memory_.data() + offsets_[i];
  }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t parts() const { return columns_ / part_columns; }

 private:
  struct Offsets {
    int64_t of[plane_count + 1];  // the last is the whole size
    int64_t operator[](int i) const { return of[i]; }
  };
  static Offsets offsets_of(const PlaneLayout& layout, int64_t rows);

  PlaneLayout layout_;
  int64_t rows_;
  int64_t columns_;
  Offsets offsets_;
  DeviceBuffer memory_;
};

}  // namespace rocmforge::hip
