#include "paged_attention.h"

#include <algorithm>

namespace rocmforge::hip {
namespace {

// The variant for heads that are as wide, or of those for narrower ones the least wide.
std::string variant(const Attributes& attributes, const std::string& kernel, int64_t head_dim) {
  constexpr int64_t granule = 16;
  for (const int64_t width : {64, 128, 256, 576}) {
    if (head_dim > width || head_dim % granule != 0) continue;
    return kernel + (head_dim == width ? "." : ".below_") + std::to_string(width);
  }
  attributes.fail("head_dim", "is " + std::to_string(head_dim) +
                                  ", the GPU kernels attend to multiples of 16 up to 576");
}

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

}  // namespace

PagedAttention::PagedAttention(const Attributes& attributes)
    : heads_(attributes),
      scale_(attributes.real("scale")),
      window_(narrow(attributes.integer_or("window", 0, 0))),
      softcap_(attributes.real_or("softcap", 0.0f)),
      memory_(attributes),
      decode_(variant(attributes, "decode_attention", heads_.head_dim)),
      merge_(variant(attributes, "merge_attention", heads_.head_dim)),
      prefill_(variant(attributes, "prefill_attention", heads_.head_dim)) {
  if (attributes.integer_or("causal", 1, 0) == 0) {
    attributes.fail("causal", "is 0, the GPU kernels attend to earlier positions only");
  }
}

void PagedAttention::compute(const Context& context) const {
  const int64_t q_width = heads_.heads * heads_.head_dim;
  const auto q = context.input<float>(0, {any_size, q_width});
  const int64_t tokens = q.shape[0];
  const auto pool =
      context.input<Half>(1, {any_size, any_size, 2, heads_.kv_heads, any_size, heads_.head_dim});
  const PagedLayer layer = heads_.of_pool(context, const_cast<Half*>(pool.data), pool.shape);
  const auto positions = context.input<int32_t>(2, {tokens});
  const auto row_starts = context.input<int32_t>(3, {any_size});
  const int64_t rows = row_starts.shape[0] - 1;
  const auto page_table = context.input<int32_t>(4, {rows, any_size});
  const auto sinks = context.input<float>(5, {heads_.heads});
  float* y = context.output<float>(0, {tokens, q_width});
  if (tokens == 0) return;

  const Stream stream = context.stream();
  const int32_t heads = narrow(heads_.heads), kv_heads = narrow(heads_.kv_heads);
  const int32_t head_dim = narrow(heads_.head_dim), page_columns = narrow(page_table.shape[1]);
  const int32_t page_size = narrow(layer.page_size), has_sinks = sinks.data != nullptr;
  const int64_t group = heads_.heads / heads_.kv_heads;

  // Row lengths are only known on the device; the page table gives their maximum.
  const int64_t tile = decode_.constant("ROWS");
  const int64_t chunks = heads_.kv_heads * ceiling_divide(group, tile);
  const int64_t splits = std::max<int64_t>(
      1, ceiling_divide(page_table.shape[1] * layer.page_size, decode_.constant("SPLIT")));
  // Rows that are longer than those of decode_ are left to prefill_.
  const bool may_be_long = tokens != rows && tokens > std::max<int64_t>(1, tile / group);
  const bool is_long_row = rows == 1 && may_be_long;
  // Query rows of a program that may be there: rows of one token each have as many as heads.
  const int64_t row_states = tokens == rows ? std::min(tile, group) : tile;
  Scratch scratch(memory_);
  if (!is_long_row) {
    float *partial = nullptr, *statistics = nullptr;
    if (splits > 1) {
      const int64_t states = rows * chunks * splits * row_states;
      partial = scratch.take<float>(states * heads_.head_dim);
      statistics = scratch.take<float>(states * 2);
    }
    decode_(stream, {rows, chunks, splits}, y, partial, statistics, q.data, layer.pages,
            positions.data, row_starts.data, page_table.data, sinks.data, heads, kv_heads, head_dim,
            page_columns, page_size, window_, has_sinks, scale_, softcap_, narrow(row_states));
    if (splits > 1) {
      merge_(stream, {rows, chunks}, y, partial, statistics, positions.data, row_starts.data,
             sinks.data, heads, kv_heads, head_dim, narrow(splits), window_, has_sinks,
             narrow(row_states));
    }
  }
  if (!may_be_long) return;
  const int64_t prefill_tile = prefill_.constant("ROWS");
  const int64_t queries = std::max<int64_t>(1, prefill_tile / group);
  prefill_(stream, {tokens / queries + rows, heads_.kv_heads * ceiling_divide(group, prefill_tile)},
           y, q.data, layer.pages, positions.data, row_starts.data, page_table.data, sinks.data,
           narrow(rows), heads, kv_heads, head_dim, page_columns, page_size, window_, has_sinks,
           scale_, softcap_);
}

}  // namespace rocmforge::hip
