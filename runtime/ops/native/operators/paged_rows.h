// The rows of a step and their pages, checked: what the operators on the page pool share.
#pragma once

#include <algorithm>

#include "../context.h"
#include "../kernel_table.h"
#include "row_starts.h"

namespace rocmforge {

// The attributes that say where a layer's heads lie in the pool.
struct PagedHeads {
  int64_t layer;
  int64_t heads;     // H
  int64_t kv_heads;  // G
  int64_t head_dim;  // D

  explicit PagedHeads(const Attributes& attributes)
      : layer(attributes.integer("layer", 0)),
        heads(attributes.integer("heads", 1)),
        kv_heads(attributes.integer("kv_heads", 1)),
        head_dim(attributes.integer("head_dim", 1)) {
    if (heads % kv_heads != 0) {
      attributes.fail("heads", std::to_string(heads) + " are not a multiple of the " +
                                   std::to_string(kv_heads) + " kv_heads");
    }
  }

  // This layer of a pool of the shape [layers, pages, 2, kv_heads, page_size, head_dim].
  PagedLayer of_pool(const Context& context, Half* pool, const Shape& shape) const {
    if (layer >= shape[0]) {
      context.fail("layer", std::to_string(layer) + " is not in a pool of " +
                                std::to_string(shape[0]) + " layers");
    }
    if (shape[4] == 0) context.fail("pool", "has a page size of 0");
    const int64_t size = shape[1] * 2 * kv_heads * shape[4] * head_dim;
    return {pool + layer * size, shape[4], kv_heads, head_dim};
  }
};

// The inputs positions, row_starts and page_table. The constructor checks that row_starts cuts the
// tokens into rows, that every position has a page in its row, and that the pages up to it exist.
class PagedRows {
 public:
  struct Inputs {
    size_t positions;
    size_t row_starts;
    size_t page_table;
  };

  // With `written_only` only the pages that tokens are written to are looked at.
  PagedRows(const Context& context, const Inputs& inputs, int64_t tokens, int64_t pages,
            int64_t page_size, bool written_only)
      : positions_(context.input<int32_t>(inputs.positions, {tokens})),
        row_starts_(context.input<int32_t>(inputs.row_starts, {any_size})),
        page_table_(
            context.input<int32_t>(inputs.page_table, {row_starts_.shape[0] - 1, any_size})) {
    check_row_starts(context, row_starts_, tokens);
    for (int64_t row = 0; row < count(); ++row) {
      check_row(context, row, pages, page_size, written_only);
    }
  }

  int64_t count() const { return row_starts_.shape[0] - 1; }
  // The tokens of a row.
  Span tokens(int64_t row) const { return {row_starts_.data[row], row_starts_.data[row + 1]}; }
  // The row of a token.
  int64_t row_of(int64_t token) const {
    const int32_t* starts = row_starts_.data;
    return std::upper_bound(starts, starts + count(), static_cast<int32_t>(token)) - starts - 1;
  }
  const int32_t* positions() const { return positions_.data; }
  const int32_t* pages(int64_t row) const { return page_table_.data + row * page_table_.shape[1]; }

 private:
  void check_row(const Context& context, int64_t row, int64_t pages, int64_t page_size,
                 bool written_only) const {
    int64_t checked = 0;  // pages of the row that are known to be good
    for (int64_t t = tokens(row).begin; t < tokens(row).end; ++t) {
      const int64_t position = positions_.data[t], last = position / page_size;
      if (position < 0 || last >= page_table_.shape[1]) {
        context.fail("positions", "has " + std::to_string(position) + ", row " +
                                      std::to_string(row) + " has room for " +
                                      std::to_string(page_table_.shape[1] * page_size));
      }
      for (int64_t p = written_only ? last : checked; p <= last; ++p) {
        const int32_t page = this->pages(row)[p];
        if (page < 0 || page >= pages) {
          context.fail("page_table", "names page " + std::to_string(page) + " in row " +
                                         std::to_string(row) + ", the pool has " +
                                         std::to_string(pages));
        }
      }
      if (last >= checked) checked = last + 1;
    }
  }

  Tensor<const int32_t> positions_;
  Tensor<const int32_t> row_starts_;
  Tensor<const int32_t> page_table_;
};

}  // namespace rocmforge
