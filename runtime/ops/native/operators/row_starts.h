// The input row_starts of every operator over the rows of a step, checked.
#pragma once

#include <string>

#include "../context.h"

namespace rocmforge {

// Fails unless the starts cut the tokens into rows, of which some may be empty.
inline void check_row_starts(const Context& context, const Tensor<const int32_t>& row_starts,
                             int64_t tokens) {
  const int64_t rows = row_starts.shape[0] - 1;
  const int32_t* starts = row_starts.data;
  if (rows < 0) context.fail("row_starts", "is empty");
  bool valid = starts[0] == 0 && starts[rows] == tokens;
  for (int64_t row = 0; row < rows; ++row) valid = valid && starts[row] <= starts[row + 1];
  if (!valid) {
    context.fail("row_starts", "does not rise from 0 to the " + std::to_string(tokens) + " tokens");
  }
}

}  // namespace rocmforge
