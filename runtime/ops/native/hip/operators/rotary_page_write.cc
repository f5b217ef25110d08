#include "rotary_page_write.h"

namespace rocmforge::hip {

RotaryPageWrite::RotaryPageWrite(const Attributes& attributes)
    : heads_(attributes), kernel_("rotary_page_write") {
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
  const auto positions = context.input<int32_t>(3, {tokens});
  const auto row_starts = context.input<int32_t>(4, {any_size});
  const int64_t rows = row_starts.shape[0] - 1;
  const auto page_table = context.input<int32_t>(5, {rows, any_size});
  const auto angles = context.input<float>(6, {tokens, any_size});
  const auto pool =
      context.input<Half>(7, {any_size, any_size, 2, heads_.kv_heads, any_size, width});
  const Shape& shape = pool.shape;

  float* rotated = context.output<float>(0, {tokens, q_width});
  Half* written = context.output<Half>(1, {shape[0], shape[1], 2, shape[3], shape[4], width});
  const Stream stream = context.stream();
  if (written != pool.data) {
    // The caller did not bind the pool as the output too: give it a copy.
    const int64_t size = shape[0] * shape[1] * 2 * shape[3] * shape[4] * width;
    check(api().memcpy_async(written, pool.data, static_cast<size_t>(size) * sizeof(Half),
                             CopyKind::device_to_device, stream),
          "copying the page pool");
  }
  const PagedLayer layer = heads_.of_pool(context, written, shape);
  // A tensor without values is not in the device's memory.
  const float* rotation = angles.shape[1] == 0 ? nullptr : angles.data;
  const auto narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  const Grid grid{tokens, heads_.heads + 2 * heads_.kv_heads,
                  ceiling_divide(width, kernel_.constant("BLOCK"))};
  kernel_(stream, grid, rotated, layer.pages, q.data, k.data, v.data, rotation, positions.data,
          row_starts.data, page_table.data, narrow(heads_.heads), narrow(heads_.kv_heads),
          narrow(width), narrow(angles.shape[1]), narrow(rows), narrow(page_table.shape[1]),
          narrow(layer.page_size), adjacent_);
}

}  // namespace rocmforge::hip
