// What a call of a norm reads and writes, on the CPU and on a GPU alike.
#pragma once

#include "../context.h"
#include "../work_units.h"

namespace rocmforge {

struct NormCall {
  // What a weight is as wide as.
  enum class Weight { row, group };

  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"weight", ort::ElementType::float32},
      {"residual", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32},
                                     {"sum", ort::ElementType::float32, ort::Presence::optional}};

  int64_t rows;
  int64_t columns;
  int64_t width;  // of the weight
  const float* x;
  const float* weight;
  const float* residual;  // or null
  float* y;
  float* sum;  // or null

  // Fails where the weight is not as wide as a row, or does not divide it into groups.
  NormCall(const Context& context, Weight weights) {
    const auto all = context.input<float>(0, {any_size, any_size});
    rows = all.shape[0];
    columns = all.shape[1];
    x = all.data;
    const auto factors =
        context.input<float>(1, {weights == Weight::row ? columns : int64_t{any_size}});
    weight = factors.data;
    width = factors.shape[0];
    if (weights == Weight::group && (width == 0 || columns % width != 0)) {
      context.fail("weight", "has " + std::to_string(width) + " values, which do not divide the " +
                                 std::to_string(columns) + " columns of x");
    }
    residual = context.input<float>(2, {rows, columns}).data;
    y = context.output<float>(0, {rows, columns});
    sum = context.has_output(1) ? context.output<float>(1, {rows, columns}) : nullptr;
  }

  // The same of one row.
  NormCall row(int64_t index) const {
    const int64_t at = index * columns;
    NormCall one = *this;
    one.rows = 1;
    one.x += at;
    one.y += at;
    if (residual != nullptr) one.residual += at;
    if (sum != nullptr) one.sum += at;
    return one;
  }
};

// Calls norm(row) for each row of a call, on all threads.
template <typename Norm>
void norm_rows(const Context& context, const NormCall& call, const Norm& norm) {
  const WorkUnits units(call.rows, call.columns);
  context.parallel_for(units.count(), [&](int64_t unit) {
    for (int64_t i = units.begin(unit); i < units.end(unit); ++i) norm(call.row(i));
  });
}

}  // namespace rocmforge
