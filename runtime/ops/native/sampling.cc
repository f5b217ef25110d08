// The likeliest tokens of rows of logits, and sums over them, which samplers ask for.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "export.h"
#include "instruction_set.h"

namespace rocmforge {
namespace {

// A number that is the smaller, the larger the logit is, and for equal ones the lower the token.
uint64_t key_of(float logit, uint32_t token) {
  const float positive = logit + 0.0f;  // of 0 and -0 neither is larger
  uint32_t bits;
  std::memcpy(&bits, &positive, sizeof bits);
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | token;
}

float logit_of(uint64_t key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  const uint32_t bits = ascending >> 31 ? ascending & 0x7fffffffu : ~ascending;
  float logit;
  std::memcpy(&logit, &bits, sizeof logit);
  return logit;
}

// The count-th largest of some values; minus infinity if there are fewer.
float nth_largest(const float* values, int64_t size, int64_t count, std::vector<float>& scratch) {
  if (count > size) return -std::numeric_limits<float>::infinity();
  scratch.assign(values, values + size);
  std::nth_element(scratch.begin(), scratch.begin() + (count - 1), scratch.end(),
                   std::greater<float>());
  return scratch[count - 1];
}

// The keys of what may be among the `count` largest.
void collect(const float* logits, const float* maxima, int64_t size, int64_t count,
             std::vector<float>& scratch, std::vector<uint64_t>& keys) {
  const int64_t blocks = (size + logit_block - 1) / logit_block;
  // As many logits reach this as there are to be found, and hardly more.
  const float bound = nth_largest(maxima, blocks, count, scratch);
  keys.clear();
  for (int64_t block = 0; block < blocks; ++block) {
    if (!(maxima[block] >= bound)) continue;
    const int64_t first = block * logit_block;
    const auto take = [&](int64_t token) {
      keys.push_back(key_of(logits[token], static_cast<uint32_t>(token)));
    };
    if (first + logit_block <= size) {
      uint64_t found = kernels().reaching(logits + first, bound);
      for (; found != 0; found &= found - 1) take(first + std::countr_zero(found));
    } else {
      for (int64_t token = first; token < size; ++token) {
        if (logits[token] >= bound) take(token);
      }
    }
  }
  // Rows with what is no number are not to be asked for, and do no harm.
  const float least = -std::numeric_limits<float>::infinity();
  while (static_cast<int64_t>(keys.size()) < count) keys.push_back(key_of(least, 0));
}

}  // namespace
}  // namespace rocmforge

using rocmforge::logit_block;

// For each of the rows of logits [rows, size]: the largest of each block of 64, the token of the
// largest (the lowest of several) and whether that is finite and no logit is infinity or no number.
ROCMFORGE_EXPORT void rocmforge_summarize_logits(const float* logits, int64_t rows, int64_t size,
                                                 float* maxima, int64_t* likeliest,
                                                 uint8_t* finite) {
  const int64_t blocks = (size + logit_block - 1) / logit_block;
  for (int64_t row = 0; row < rows; ++row, logits += size, maxima += blocks) {
    const bool is_sound = rocmforge::kernels().block_maxima(logits, size, maxima);
    const float* most = std::max_element(maxima, maxima + blocks);
    const float* begin = logits + (most - maxima) * logit_block;
    const float* end = std::min(begin + logit_block, logits + size);
    const float* found = std::find(begin, end, *most);
    likeliest[row] = found == end ? 0 : found - logits;
    finite[row] = is_sound && *most > -std::numeric_limits<float>::infinity();
  }
}

// The `count` <= size likeliest tokens [chosen, count] of some rows of logits [rows, size], the
// likeliest first, of equal ones the lowest first, and their logits. Each row has a finite maximum.
ROCMFORGE_EXPORT void rocmforge_find_likeliest(const float* logits, const float* maxima,
                                               int64_t size, const int64_t* rows, int64_t chosen,
                                               int64_t count, int64_t* tokens, float* found) {
  const int64_t blocks = (size + logit_block - 1) / logit_block;
  std::vector<float> scratch;
  std::vector<uint64_t> keys;
  for (int64_t i = 0; i < chosen; ++i, tokens += count, found += count) {
    rocmforge::collect(logits + rows[i] * size, maxima + rows[i] * blocks, size, count, scratch,
                       keys);
    const auto end = keys.begin() + count;
    if (end != keys.end()) std::nth_element(keys.begin(), end, keys.end());
    std::sort(keys.begin(), end);
    for (int64_t at = 0; at < count; ++at) {
      tokens[at] = static_cast<int64_t>(keys[at] & 0xffffffffu);
      found[at] = rocmforge::logit_of(keys[at]);
    }
  }
}

// Of the logits of a row that are above minus infinity: any number, how many there are, and the
// sums of their distances from that number and of the squares of these [4].
ROCMFORGE_EXPORT void rocmforge_find_moments(const float* logits, int64_t size, double* found) {
  const rocmforge::Moments moments = rocmforge::kernels().moments(logits, size);
  found[0] = moments.middle;
  found[1] = moments.count;
  found[2] = moments.sum;
  found[3] = moments.squares;
}
