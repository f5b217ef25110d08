#include "gated_delta_net.h"

#include <algorithm>
#include <cmath>

#include "../instruction_set.h"
#include "../scratch.h"

namespace rocmforge {
namespace {

// x divided by sqrt(sum of squares + epsilon), times scale.
void normalize(const float* x, int64_t count, float epsilon, double scale, float* out) {
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double factor = scale / std::sqrt(squares + epsilon);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(x[i] * factor);
}

}  // namespace

GatedDeltaNet::GatedDeltaNet(const Attributes& attributes)
    : offset_(attributes.integer("offset", 0)),
      heads_(attributes.integer("heads", 1)),
      key_heads_(attributes.integer("key_heads", 1)),
      head_dim_(attributes.integer("head_dim", 1)),
      epsilon_(attributes.real("epsilon")),
      interleaved_(attributes.integer("interleaved", 0) != 0) {
  if (heads_ % key_heads_ != 0) {
    attributes.fail("heads", std::to_string(heads_) + " are not a multiple of the " +
                                 std::to_string(key_heads_) + " key_heads");
  }
}

void GatedDeltaNet::compute(const Context& context) const {
  const int64_t width = head_dim_, keys = key_heads_ * width, values = heads_ * width;
  const auto x = context.input<float>(0, {any_size, 2 * keys + values});
  const int64_t tokens = x.shape[0], size = width * width;
  const auto alpha = context.input<float>(1, {tokens, any_size});
  const auto beta = context.input<float>(2, {tokens, heads_});
  const auto decay = context.input<float>(3, {heads_});
  const auto step_bias = context.input<float>(4, {alpha.shape[1]});
  if (alpha.shape[1] != heads_ && alpha.shape[1] != values) {
    context.fail("alpha", "has " + std::to_string(alpha.shape[1]) + " columns instead of " +
                              std::to_string(heads_) + " or " + std::to_string(values));
  }
  // How many gates a head has: one, or one for each value of its key.
  const int64_t gates = alpha.shape[1] / heads_;
  float* y = context.output<float>(0, {tokens, values});
  const StateRows rows(context, {5, 6, 7, 8, 1}, tokens, offset_, heads_ * size);

  const KernelTable& table = kernels();
  const auto run_head = [&](int64_t row, int64_t head) {
    const Span span = rows.tokens(row);
    if (span.begin == span.end) return;
    const int64_t key_head = interleaved_ ? head / (heads_ / key_heads_) : head % key_heads_;
    float* query = scratch<float>(ScratchUse::unit, 3 * width + size);
    float* key = query + width;
    float* kept = key + width;
    // Where the row's last state goes is where it is computed, so that decoding copies nothing.
    float* last = rows.after(span.end - 1);
    float* state = last != nullptr ? last + head * size : kept + width;
    if (const float* before = rows.before(row); before == nullptr) {
      std::fill_n(state, size, 0.0f);
    } else if (before + head * size != state) {
      std::copy_n(before + head * size, size, state);
    }
    for (int64_t t = span.begin; t < span.end; ++t) {
      const float* token = x.data + t * (2 * keys + values);
      normalize(token + key_head * width, width, epsilon_, 1 / std::sqrt(double(width)), query);
      normalize(token + keys + key_head * width, width, epsilon_, 1, key);
      const int64_t at = t * heads_ + head;
      for (int64_t i = 0; i < gates; ++i) {
        const double opened = double(alpha.data[at * gates + i]) + step_bias.data[head * gates + i];
        kept[i] = static_cast<float>(std::exp(decay.data[head] * softplus(opened)));
      }
      if (gates == 1) std::fill_n(kept, width, kept[0]);
      const double share = 1 / (1 + std::exp(-double(beta.data[at])));
      table.delta_step({query, key, token + 2 * keys + head * width, kept,
                        static_cast<float>(share), width, state, y + t * values + head * width});
      float* after = rows.after(t);
      if (after != nullptr && t + 1 < span.end) std::copy_n(state, size, after + head * size);
    }
  };
  context.parallel_for(rows.count() * heads_,
                       [&](int64_t unit) { run_head(unit / heads_, unit % heads_); });
}

}  // namespace rocmforge
