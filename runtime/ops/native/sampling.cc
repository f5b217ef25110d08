// Sampling of the tokens of a step's rows, for Python.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>

#include "candidates.h"
#include "export.h"
#include "instruction_set.h"
#include "row_threads.h"

using rocmforge::Candidates;
using rocmforge::logit_block;
using rocmforge::SampledRow;

namespace {

Candidates& candidates() {
  thread_local Candidates own;
  return own;
}

}  // namespace

// For each of the rows of logits [rows, size]: the largest of each block of 64, the token of the
// largest (the lowest of several) and whether that is finite and no logit is infinity or no number.
ROCMFORGE_EXPORT void rocmforge_summarize_logits(const float* logits, int64_t rows, int64_t size,
                                                 float* maxima, int64_t* likeliest,
                                                 uint8_t* finite) {
  const int64_t blocks = (size + logit_block - 1) / logit_block;
  rocmforge::for_each_row(rows, size, [&](int64_t row) {
    const float* own = logits + row * size;
    float* first = maxima + row * blocks;
    const bool is_sound = rocmforge::kernels().block_maxima(own, size, first);
    const float* most = std::max_element(first, first + blocks);
    const float* begin = own + (most - first) * logit_block;
    const float* end = std::min(begin + logit_block, own + size);
    const float* found = std::find(begin, end, *most);
    likeliest[row] = found == end ? 0 : found - own;
    finite[row] = is_sound && *most > -std::numeric_limits<float>::infinity();
  });
}

// The token of each of some rows, or a negative number that says why there is none.
ROCMFORGE_EXPORT void rocmforge_sample_rows(const SampledRow* rows, int64_t count,
                                            int64_t* tokens) {
  const int64_t size = count > 0 ? rows[0].size : 0;
  rocmforge::for_each_row(count, size, [&](int64_t row) {
    try {
      tokens[row] = candidates().sample(rows[row]);
    } catch (const std::bad_alloc&) {
      tokens[row] = rocmforge::no_memory;
    }
  });
}

// What the samplers leave of a row, and its weights, [size] each; returns how many tokens.
ROCMFORGE_EXPORT int64_t rocmforge_keep_tokens(const SampledRow* row, int64_t* tokens,
                                               double* weights) {
  try {
    return candidates().keep(*row, tokens, weights);
  } catch (const std::bad_alloc&) {
    return rocmforge::no_memory;
  }
}
