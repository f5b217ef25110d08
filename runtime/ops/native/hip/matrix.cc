#include "matrix.h"

#include <algorithm>
#include <utility>

#include "../operators/weights.h"

namespace rocmforge::hip {
namespace {

// Up to so many rows a kernel of small tiles is faster than one of large ones.
constexpr int64_t most_few_rows = 32;
// A product of half of these programs or fewer is split along the columns of its weights, since
// they do not fill a GPU of 300 compute units.
constexpr int64_t programs_of_few_rows = 512, programs_of_many_rows = 256;
constexpr int64_t most_splits = 16, usual_split_parts = 16;

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

}  // namespace

std::shared_ptr<const DeviceWeights> uploaded(const Attributes& attributes, const char* op,
                                              size_t index, const Port& port,
                                              const std::string& format, int64_t columns) {
  const Weights declared(attributes, format, columns);
  const auto blocks = attributes.constant<uint8_t>(index, port, {any_size, declared.row_bytes});
  return DeviceWeights::upload(op, declared.format, blocks.data, blocks.shape[0], columns);
}

Matrix::Matrix(std::shared_ptr<const DeviceWeights> weights)
    : weights_(std::move(weights)),
      one_row_("one_row." + weights_->layout().name),
      few_rows_("few_rows." + weights_->layout().name),
      many_rows_("many_rows." + weights_->layout().name),
      round_("round_activations"),
      sum_splits_("sum_splits") {}

const Matrix::SomeRows& Matrix::kernel_for(int64_t rows) const {
  return rows <= most_few_rows ? few_rows_ : many_rows_;
}

const void* Matrix::read(Stream stream, Scratch& scratch, Activations& x) const {
  if (few_rows_.constant("EXACT") != 0) return x.values_;
  if (x.rounded_ == nullptr) {
    auto* rounded = scratch.take<uint16_t>(x.count_);
    round_(stream, {ceiling_divide(x.count_, round_.constant("BLOCK"))}, rounded, x.values_,
           narrow(x.count_));
    x.rounded_ = rounded;
  }
  return x.rounded_;
}

int64_t Matrix::splits(const SomeRows& kernel, int64_t tiles, int64_t M) const {
  const int64_t programs = M <= most_few_rows ? programs_of_few_rows : programs_of_many_rows;
  const int64_t parts = weights_->parts(), loop_parts = kernel.constant("PARTS");
  const int64_t most = std::clamp<int64_t>(parts / usual_split_parts, 1, most_splits);
  const int64_t wanted = std::clamp<int64_t>(programs / std::max<int64_t>(tiles, 1), 1, most);
  // The kernel cuts at whole loops: so many splits that none is empty.
  const int64_t split_parts = ceiling_divide(parts, wanted * loop_parts) * loop_parts;
  return ceiling_divide(parts, split_parts);
}

void Matrix::multiply(Stream stream, Scratch& scratch, float* y, Activations& x, const float* bias,
                      int64_t M) const {
  const PlaneLayout& layout = weights_->layout();
  const auto plane = [this](int i) { return weights_->plane(i); };
  const int64_t N = rows();
  const int32_t has_bias = bias != nullptr;
  if (M == 1) {
    one_row_(stream, {ceiling_divide(N, one_row_.constant("ROWS")), 1}, y, x.values_, bias,
             plane(0), plane(1), plane(2), plane(3), nullptr, layout.table[0], layout.table[1],
             layout.unit_factor, layout.zero, narrow(N), narrow(weights_->parts()), has_bias, 0, 1);
    return;
  }
  const SomeRows& kernel = kernel_for(M);
  Grid grid{ceiling_divide(N, kernel.constant("COLUMNS")),
            ceiling_divide(M, kernel.constant("ROWS"))};
  grid.z = splits(kernel, grid.x * grid.y, M);
  float* const sums = grid.z == 1 ? y : scratch.take<float>(grid.z * M * N);
  kernel(stream, grid, sums, read(stream, scratch, x), bias, plane(0), plane(1), plane(2), plane(3),
         nullptr, nullptr, layout.table[0], layout.table[1], layout.unit_factor, layout.zero,
         narrow(N), narrow(weights_->parts()), narrow(M), has_bias, 0, 1);
  if (grid.z > 1) {
    sum_splits_(stream, {ceiling_divide(M * N, sum_splits_.constant("BLOCK"))}, y, sums,
                narrow(M * N), narrow(grid.z));
  }
}

int64_t Matrix::tile_slots(const Routing& routing) const {
  if (routing.slots <= routing.lone_slots) return 0;
  return kernel_for(routing.slots / routing.experts).constant("ROWS");
}

void Matrix::multiply(Stream stream, Scratch& scratch, float* y, Activations& x, const float* bias,
                      const Routing& routing, int64_t slots_per_row,
                      const PlacedSlots& placed) const {
  const PlaneLayout& layout = weights_->layout();
  const auto plane = [this](int i) { return weights_->plane(i); };
  const int64_t N = rows() / routing.experts, slots = routing.slots;
  const int32_t has_bias = bias != nullptr;
  const int64_t tile = tile_slots(routing);
  if (tile == 0) {
    one_row_(stream, {ceiling_divide(N, one_row_.constant("ROWS")), slots}, y, x.values_, bias,
             plane(0), plane(1), plane(2), plane(3), routing.chosen, layout.table[0],
             layout.table[1], layout.unit_factor, layout.zero, narrow(N), narrow(weights_->parts()),
             has_bias, 1, narrow(slots_per_row));
    return;
  }
  const SomeRows& kernel = kernel_for(slots / routing.experts);
  const Grid grid{ceiling_divide(N, kernel.constant("COLUMNS")),
                  ceiling_divide(slots, tile) + routing.experts};
  kernel(stream, grid, y, read(stream, scratch, x), bias, plane(0), plane(1), plane(2), plane(3),
         placed.slots, placed.experts, layout.table[0], layout.table[1], layout.unit_factor,
         layout.zero, narrow(N), narrow(weights_->parts()), narrow(slots), has_bias, 1,
         narrow(slots_per_row));
}

}  // namespace rocmforge::hip
