#include "matrix.h"

#include <algorithm>
#include <utility>

#include "../operators/weights.h"

namespace rocmforge::hip {
namespace {

// Up to this many rows a kernel of small tiles is faster than one of large ones.
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
  // The kernel splits at whole loops: the number of splits that leaves none empty.
  const int64_t split_parts = ceiling_divide(parts, wanted * loop_parts) * loop_parts;
  return ceiling_divide(parts, split_parts);
}

void Matrix::multiply_alone(Stream stream, const Result& y, const Activations& x,
                            const int32_t* chosen) const {
  const PlaneLayout& layout = weights_->layout();
  const auto plane = [this](int i) { return weights_->plane(i); };
  one_row_(stream, {ceiling_divide(y.columns, one_row_.constant("ROWS")), y.rows}, y.data,
           x.values_, y.bias, plane(0), plane(1), plane(2), plane(3), chosen, layout.table[0],
           layout.table[1], layout.unit_factor, layout.zero, narrow(y.columns),
           narrow(weights_->parts()), y.bias != nullptr, chosen != nullptr,
           narrow(y.slots_per_row));
}

void Matrix::multiply_tiles(Stream stream, const SomeRows& kernel, Grid grid, const Result& y,
                            const void* x, const PlacedSlots& placed) const {
  const PlaneLayout& layout = weights_->layout();
  const auto plane = [this](int i) { return weights_->plane(i); };
  kernel(stream, grid, y.data, x, y.bias, plane(0), plane(1), plane(2), plane(3), placed.slots,
         placed.experts, layout.table[0], layout.table[1], layout.unit_factor, layout.zero,
         narrow(y.columns), narrow(weights_->parts()), narrow(y.rows), y.bias != nullptr,
         placed.slots != nullptr, narrow(y.slots_per_row));
}

void Matrix::multiply(Stream stream, Scratch& scratch, float* y, Activations& x, const float* bias,
                      int64_t M) const {
  const int64_t N = rows();
  if (M == 1) return multiply_alone(stream, {y, bias, M, N}, x, nullptr);
  const SomeRows& kernel = kernel_for(M);
  Grid grid{ceiling_divide(N, kernel.constant("COLUMNS")),
            ceiling_divide(M, kernel.constant("ROWS"))};
  grid.z = splits(kernel, grid.x * grid.y, M);
  float* const sums = grid.z == 1 ? y : scratch.take<float>(grid.z * M * N);
  multiply_tiles(stream, kernel, grid, {sums, bias, M, N}, read(stream, scratch, x), {});
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
  const int64_t tile = tile_slots(routing);
  const Result result{y, bias, routing.slots, rows() / routing.experts, slots_per_row};
  if (tile == 0) return multiply_alone(stream, result, x, routing.chosen);
  const SomeRows& kernel = kernel_for(routing.slots / routing.experts);
  const Grid grid{ceiling_divide(result.columns, kernel.constant("COLUMNS")),
                  ceiling_divide(routing.slots, tile) + routing.experts};
  multiply_tiles(stream, kernel, grid, result, read(stream, scratch, x), placed);
}

}  // namespace rocmforge::hip
