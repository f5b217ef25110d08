// Rows of weights in a block format, as the operators that read them declare it.
#pragma once

#include "../block_shapes.h"
#include "../context.h"

namespace rocmforge {

struct Weights {
  BlockFormat format;
  int64_t columns;
  int64_t row_bytes;

  // From the attributes `format` and `columns`.
  explicit Weights(const Attributes& attributes) {
    const std::string name = attributes.text("format");
    columns = attributes.integer("columns", 1);
    for (const BlockShape& shape : block_shapes) {
      if (shape.name != name) continue;
      if (columns % shape.columns != 0) {
        attributes.fail("columns", std::to_string(columns) + " are not whole " + name + " blocks");
      }
      format = shape.format;
      row_bytes = columns / shape.columns * shape.bytes;
      return;
    }
    attributes.fail("format", "'" + name + "' is unknown");
  }
};

}  // namespace rocmforge
