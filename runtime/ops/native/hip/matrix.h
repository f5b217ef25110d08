// Products with a weight matrix in GPU memory, by the kernel that fits the number of rows.
#pragma once

#include <memory>
#include <string>

#include "device_weights.h"
#include "kernel.h"

namespace rocmforge::hip {

// The constant input at `index` of an operator, uploaded: rows of blocks as in the file.
std::shared_ptr<const DeviceWeights> uploaded(const Attributes& attributes, const char* op,
                                              size_t index, const Port& port,
                                              const std::string& format, int64_t columns);

// Rows of a result that are computed by different experts. Slot s of y [slots, N] is
// x[s / slots_per_row] times the weights of the expert chosen[s].
struct Routing {
  const int32_t* chosen;
  int64_t slots;
  int64_t experts;
  // Up to this many slots each is computed alone: most experts would get a tile of one slot.
  static constexpr int64_t usual_lone_slots = 16;
  int64_t lone_slots = usual_lone_slots;
};

// The slots in the order of their experts, in tiles of one expert each.
struct PlacedSlots {
  const int32_t* slots;
  const int32_t* experts;
};

// The left side of products [M, K]: float32, and float16 for those that multiply in it. Owned by
// one call of an operator.
class Activations {
 public:
  Activations(const float* values, int64_t count) : values_(values), count_(count) {}

 private:
  friend class Matrix;
  const float* values_;
  int64_t count_;
  const uint16_t* rounded_ = nullptr;  // in scratch memory, from the first product on that asks
};

// Weights and the kernels that multiply in their layout. Immutable.
class Matrix {
 public:
  explicit Matrix(std::shared_ptr<const DeviceWeights> weights);

  int64_t rows() const { return weights_->rows(); }

  // y [M, N] = x [M, K] @ weights.T + bias [N], or null for none.
  void multiply(Stream stream, Scratch& scratch, float* y, Activations& x, const float* bias,
                int64_t M) const;

  // The weights are those of every expert one after the other, bias is [experts, N] or null.
  void multiply(Stream stream, Scratch& scratch, float* y, Activations& x, const float* bias,
                const Routing& routing, int64_t slots_per_row, const PlacedSlots& placed) const;
  // Slots of a tile that the product above wants placed; 0: it wants none placed.
  int64_t tile_slots(const Routing& routing) const;

 private:
  using Plane = const void*;
  using OneRow =
      Kernel<float*, const float*, const float*, Plane, Plane, Plane, Plane, const int32_t*,
             int64_t, int64_t, float, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
  using SomeRows = Kernel<float*, const void*, const float*, Plane, Plane, Plane, Plane,
                          const int32_t*, const int32_t*, int64_t, int64_t, float, int32_t, int32_t,
                          int32_t, int32_t, int32_t, int32_t, int32_t>;

  // What a launch writes, y [rows, columns], and the bias that is added; row s of it is of row
  // s / slots_per_row of x.
  struct Result {
    float* data;
    const float* bias;
    int64_t rows;
    int64_t columns;
    int64_t slots_per_row = 1;
  };

  // Each row by itself; by the weights of the expert that is chosen for it, or null for plain rows.
  void multiply_alone(Stream stream, const Result& y, const Activations& x,
                      const int32_t* chosen) const;
  // Tiles of rows; of slots that are placed by their experts, or null for plain rows.
  void multiply_tiles(Stream stream, const SomeRows& kernel, Grid grid, const Result& y,
                      const void* x, const PlacedSlots& placed) const;
  const SomeRows& kernel_for(int64_t rows) const;
  // Number of splits of the columns of a product of M rows in this many tiles.
  int64_t splits(const SomeRows& kernel, int64_t tiles, int64_t M) const;
  // What a product of more than one row reads.
  const void* read(Stream stream, Scratch& scratch, Activations& x) const;

  std::shared_ptr<const DeviceWeights> weights_;
  OneRow one_row_;
  SomeRows few_rows_;
  SomeRows many_rows_;
  Kernel<uint16_t*, const float*, int32_t> round_;
  Kernel<float*, const float*, int32_t, int32_t> sum_splits_;
};

}  // namespace rocmforge::hip
