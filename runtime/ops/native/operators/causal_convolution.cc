#include "causal_convolution.h"

#include <algorithm>

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

// Some channels of a call: what one unit of work computes for every row.
struct Channels {
  int64_t first;
  int64_t count;
  int64_t all;
  int64_t taps;
  const float* weights;  // [taps, count]
  const float* bias;     // of these channels, or null
  float* before;         // [taps - 1, count]: the inputs before the row's first token
  const float* ones;     // [count] where y is activated by SiLU, else null
};

void convolve_row(const Channels& channels, const StateRows& rows, int64_t row, const float* x,
                  float* y) {
  const int64_t count = channels.count, kept = channels.taps - 1;
  const Span tokens = rows.tokens(row);
  const float* state = rows.before(row);
  for (int64_t k = 0; k < kept; ++k) {
    float* before = channels.before + k * count;
    if (state == nullptr) {
      std::fill_n(before, count, 0.0f);
    } else {
      std::copy_n(state + k * channels.all + channels.first, count, before);
    }
  }
  // The input `back` tokens before token t.
  const auto input = [&](int64_t t, int64_t back) {
    return t - back >= tokens.begin ? x + (t - back) * channels.all + channels.first
                                    : channels.before + (kept + t - back - tokens.begin) * count;
  };
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    float* out = y + t * channels.all + channels.first;
    std::fill_n(out, count, 0.0f);
    for (int64_t k = 0; k < channels.taps; ++k) {
      const float* values = input(t, kept - k);
      const float* weights = channels.weights + k * count;
      for (int64_t c = 0; c < count; ++c) out[c] += weights[c] * values[c];
    }
    if (channels.bias != nullptr) {
      for (int64_t c = 0; c < count; ++c) out[c] += channels.bias[c];
    }
    if (channels.ones != nullptr) kernels().silu(out, channels.ones, count, out);
    if (float* after = rows.after(t)) {
      for (int64_t k = 0; k < kept; ++k) {
        std::copy_n(input(t, kept - 1 - k), count, after + k * channels.all + channels.first);
      }
    }
  }
}

}  // namespace

CausalConvolution::CausalConvolution(const Attributes& attributes)
    : offset_(attributes.integer("offset", 0)) {
  const std::string activation = attributes.text_or("activation", "");
  if (activation != "" && activation != "silu") {
    attributes.fail("activation", "'" + activation + "' is unknown");
  }
  silu_ = activation == "silu";
}

void CausalConvolution::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t tokens = x.shape[0], all = x.shape[1];
  const auto weight = context.input<float>(1, {all, any_size});
  const int64_t taps = weight.shape[1];
  if (taps < 1) context.fail("weight", "has no taps");
  const auto bias = context.input<float>(2, {all});
  float* y = context.output<float>(0, {tokens, all});
  const StateRows rows(context, {3, 4, 5, 6, 1}, tokens, offset_, (taps - 1) * all);

  constexpr int64_t channels_together = 16;
  const WorkUnits units(all, (tokens + 1) * taps, channels_together);
  context.parallel_for(units.count(), [&](int64_t unit) {
    const int64_t first = units.begin(unit), count = units.end(unit) - first;
    float* weights = scratch<float>(ScratchUse::unit, 2 * taps * count);
    float* before = weights + taps * count;
    float* ones = before + (taps - 1) * count;
    for (int64_t k = 0; k < taps; ++k) {
      for (int64_t c = 0; c < count; ++c) {
        weights[k * count + c] = weight.data[(first + c) * taps + k];
      }
    }
    std::fill_n(ones, count, 1.0f);
    const Channels channels{first,   count,
                            all,     taps,
                            weights, bias ? bias.data + first : nullptr,
                            before,  silu_ ? ones : nullptr};
    for (int64_t row = 0; row < rows.count(); ++row) convolve_row(channels, rows, row, x.data, y);
  });
}

}  // namespace rocmforge
