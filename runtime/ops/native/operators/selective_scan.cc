#include "selective_scan.h"

#include <algorithm>
#include <cmath>

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {

SelectiveScan::SelectiveScan(const Attributes& attributes)
    : offset_(attributes.integer("offset", 0)),
      heads_(attributes.integer("heads", 1)),
      groups_(attributes.integer("groups", 1)),
      state_size_(attributes.integer("state_size", 1)) {
  if (heads_ % groups_ != 0) {
    attributes.fail("heads", std::to_string(heads_) + " are not a multiple of the " +
                                 std::to_string(groups_) + " groups");
  }
}

void SelectiveScan::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, any_size});
  const int64_t tokens = x.shape[0], values = x.shape[1], states = state_size_;
  if (values % heads_ != 0) {
    context.fail("x", "has " + std::to_string(values) + " columns, no multiple of the " +
                          std::to_string(heads_) + " heads");
  }
  const auto steps = context.input<float>(1, {tokens, heads_});
  const auto input = context.input<float>(2, {tokens, groups_ * states});
  const auto output = context.input<float>(3, {tokens, groups_ * states});
  const auto decay = context.input<float>(4, {heads_, any_size});
  const bool is_diagonal = decay.shape[1] != 1;
  if (is_diagonal && decay.shape[1] != states) {
    context.fail("decay", "has " + std::to_string(decay.shape[1]) + " columns instead of 1 or " +
                              std::to_string(states));
  }
  const auto skip = context.input<float>(5, {heads_});
  const auto step_bias = context.input<float>(6, {heads_});
  float* y = context.output<float>(0, {tokens, values});
  const int64_t width = values / heads_, size = width * states;
  const StateRows rows(context, {7, 8, 9, 10, 1}, tokens, offset_, heads_ * size);

  const KernelTable& table = kernels();
  const auto run_head = [&](int64_t row, int64_t head) {
    const Span span = rows.tokens(row);
    if (span.begin == span.end) return;
    const int64_t group = head / (heads_ / groups_);
    // Where the row's last state goes is where it is computed, so that decoding copies nothing.
    float* last = rows.after(span.end - 1);
    float* state = last != nullptr ? last + head * size : scratch<float>(ScratchUse::unit, size);
    if (const float* before = rows.before(row); before == nullptr) {
      std::fill_n(state, size, 0.0f);
    } else if (before + head * size != state) {
      std::copy_n(before + head * size, size, state);
    }
    for (int64_t t = span.begin; t < span.end; ++t) {
      const double bias = step_bias ? step_bias.data[head] : 0.0f;
      const double step = softplus(steps.data[t * heads_ + head] + bias);
      const float* rate = decay.data + head * decay.shape[1];
      const int64_t at = t * values + head * width, of_group = (t * groups_ + group) * states;
      table.scan_step({x.data + at, input.data + of_group, output.data + of_group,
                       is_diagonal ? rate : nullptr,
                       is_diagonal ? 0.0f : static_cast<float>(std::exp(*rate * step)),
                       static_cast<float>(step), skip.data[head], width, states, state, y + at});
      float* after = rows.after(t);
      if (after != nullptr && t + 1 < span.end) std::copy_n(state, size, after + head * size);
    }
  };
  const WorkUnits units(heads_, tokens * size);
  context.parallel_for(units.count(), [&](int64_t unit) {
    for (int64_t row = 0; row < rows.count(); ++row) {
      for (int64_t head = units.begin(unit); head < units.end(unit); ++head) run_head(row, head);
    }
  });
}

}  // namespace rocmforge
