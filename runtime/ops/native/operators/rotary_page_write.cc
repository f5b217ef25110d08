#include "rotary_page_write.h"

#include <cstring>

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {

RotaryPageWrite::RotaryPageWrite(const Attributes& attributes) : heads_(attributes) {
  const std::string style = attributes.text("style");
  if (style != "norm" && style != "neox") attributes.fail("style", "'" + style + "' is unknown");
  adjacent_ = style == "norm";
}

void RotaryPageWrite::compute(const Context& context) const {
  const int64_t width = heads_.head_dim, q_width = heads_.heads * width;
  const int64_t kv_width = heads_.kv_heads * width;
  const auto q = context.input<float>(0, {any_size, q_width});
  const int64_t tokens = q.shape[0];
  const auto k = context.input<float>(1, {tokens, kv_width});
  const auto v = context.input<float>(2, {tokens, kv_width});
  const auto angles = context.input<float>(6, {tokens, any_size});
  const int64_t rotated_width = angles.shape[1], half = rotated_width / 2;
  if (rotated_width % 2 != 0 || rotated_width > width) {
    context.fail("angles", "has " + std::to_string(rotated_width) +
                               " columns, which are odd or more than head_dim");
  }
  const auto pool =
      context.input<Half>(7, {any_size, any_size, 2, heads_.kv_heads, any_size, width});
  const Shape& shape = pool.shape;
  heads_.of_pool(context, nullptr, shape);
  const PagedRows rows(context, {3, 4, 5}, tokens, shape[1], shape[4], true);

  float* rotated = context.output<float>(0, {tokens, q_width});
  Half* written = context.output<Half>(1, {shape[0], shape[1], 2, shape[3], shape[4], width});
  if (written != pool.data) {
    // The caller did not bind the pool as the output too: give it a copy.
    const int64_t size = shape[0] * shape[1] * 2 * shape[3] * shape[4] * width;
    std::memcpy(written, pool.data, static_cast<size_t>(size) * sizeof(Half));
  }
  const PagedLayer layer = heads_.of_pool(context, written, shape);

  const KernelTable& table = kernels();
  const auto write = [&](const float* values, int64_t page, int64_t side, int64_t slot) {
    for (int64_t head = 0; head < heads_.kv_heads; ++head) {
      table.to_half(values + head * width, width, layer.at(page, side, head, slot));
    }
  };
  const auto write_token = [&](int64_t row, int64_t t) {
    const int64_t position = rows.positions()[t];
    const float* cosines = angles.data + t * rotated_width;
    float* key = scratch<float>(ScratchUse::unit, kv_width);
    const Rotation rotation{cosines, cosines + half, half, adjacent_};
    table.rotate(q.data + t * q_width, rotation, heads_.heads, width, rotated + t * q_width);
    table.rotate(k.data + t * kv_width, rotation, heads_.kv_heads, width, key);
    const int64_t page = rows.pages(row)[position / layer.page_size];
    write(key, page, 0, position % layer.page_size);
    write(v.data + t * kv_width, page, 1, position % layer.page_size);
  };
  constexpr int64_t work_of_value = 4;
  const WorkUnits units(tokens, (q_width + 2 * kv_width) * work_of_value);
  context.parallel_for(units.count(), [&](int64_t unit) {
    int64_t row = rows.row_of(units.begin(unit));
    for (int64_t t = units.begin(unit); t < units.end(unit); ++t) {
      while (t >= rows.tokens(row).end) ++row;
      write_token(row, t);
    }
  });
}

}  // namespace rocmforge
