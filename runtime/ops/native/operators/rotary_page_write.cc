#include "rotary_page_write.h"

#include <cmath>
#include <cstring>

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {

RotaryPageWrite::RotaryPageWrite(const Attributes& attributes)
    : heads_(attributes), magnitude_(attributes.real_or("magnitude", 1.0f)) {
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
  const auto frequencies = context.input<float>(6, {any_size});
  const int64_t half = frequencies.shape[0];
  if (2 * half > width) {
    context.fail("inverse_frequencies",
                 "has " + std::to_string(half) + " values, more than half of head_dim");
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
    float* memory = scratch<float>(ScratchUse::unit, 2 * half + kv_width);
    float *cosines = memory, *sines = memory + half, *key = memory + 2 * half;
    for (int64_t i = 0; i < half; ++i) {
      // In double: a float32 angle is off by 0.01 at position 100,000.
      const double angle = static_cast<double>(position) * static_cast<double>(frequencies.data[i]);
      cosines[i] = static_cast<float>(std::cos(angle) * magnitude_);
      sines[i] = static_cast<float>(std::sin(angle) * magnitude_);
    }
    const Rotation rotation{cosines, sines, half, adjacent_};
    table.rotate(q.data + t * q_width, rotation, heads_.heads, width, rotated + t * q_width);
    table.rotate(k.data + t * kv_width, rotation, heads_.kv_heads, width, key);
    const int64_t page = rows.pages(row)[position / layer.page_size];
    write(key, page, 0, position % layer.page_size);
    write(v.data + t * kv_width, page, 1, position % layer.page_size);
  };
  for (int64_t row = 0; row < rows.count(); ++row) {
    const Span span = rows.tokens(row);
    const WorkUnits units(span.end - span.begin, q_width + 2 * kv_width + 32 * half);
    context.parallel_for(units.count(), [&](int64_t unit) {
      for (int64_t t = units.begin(unit); t < units.end(unit); ++t) {
        write_token(row, span.begin + t);
      }
    });
  }
}

}  // namespace rocmforge
