// Rows of weights in a block format, as the operators that read them declare it.
#pragma once

#include "../block_shapes.h"
#include "../context.h"
#include "../instruction_set.h"

namespace rocmforge {

// A call's weights: rows as in the file, or panels as KernelTable::pack lays them out.
struct WeightRows {
  const uint8_t* data;
  int64_t count;  // for panels, with the rows that fill up the last one
  bool packed;
};

struct Weights {
  BlockFormat format;
  int64_t columns;
  int64_t row_bytes;

  // From the attributes `format` and `columns`.
  explicit Weights(const Attributes& attributes)
      : Weights(attributes, attributes.text("format"), attributes.integer("columns", 1)) {}

  // Of one matrix of several; `attributes` only name the operator in failures.
  Weights(const Attributes& attributes, const std::string& name, int64_t matrix_columns)
      : columns(matrix_columns) {
    const BlockShape* shape = find_block_shape(name);
    if (shape == nullptr) attributes.fail("format", "'" + name + "' is unknown");
    if (columns % shape->columns != 0) {
      attributes.fail("columns", std::to_string(columns) + " are not whole " + name + " blocks");
    }
    format = shape->format;
    row_bytes = columns / shape->columns * shape->bytes;
  }

  // The input at `index`: uint8 [N, row_bytes] or [panels, blocks, bytes].
  WeightRows rows(const Context& context, size_t index) const {
    if (context.rank(index) != 3) {
      const auto rows = context.input<uint8_t>(index, {any_size, row_bytes});
      return {rows.data, rows.shape[0], false};
    }
    const KernelTable& table = kernels();
    const auto panels = context.input<uint8_t>(
        index, {any_size, columns / block_shape(format).columns, table.packed_block_bytes(format)});
    return {panels.data, panels.shape[0] * table.panel_rows, true};
  }

  // Fails unless the rows are `parts` matrices of `each` rows, and none begins inside a panel.
  void expect_parts(const Context& context, const char* input, const WeightRows& rows,
                    int64_t parts, int64_t each) const {
    const bool cut = rows.packed && each % kernels().panel_rows != 0;
    if (cut || rows.count != parts * each) {
      context.fail(input, "does not have the rows of " + std::to_string(parts) + " matrices");
    }
  }
};

}  // namespace rocmforge
