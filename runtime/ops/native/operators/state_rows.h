// The rows of a step and the slots of their states, checked: what recurrent operators share.
#pragma once

#include <cmath>
#include <cstring>

#include "../context.h"
#include "../kernel_table.h"
#include "../operator.h"
#include "row_starts.h"

namespace rocmforge {

// ln(1 + e^x)
inline double softplus(double x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

// The inputs row_starts, state_starts, state_slots and states, and the output of states. The
// constructor checks that row_starts cuts the tokens into rows and that every slot exists. Values
// of a layer begin at `offset` in each slot; `width` is how many there are.
class StateRows {
 public:
  struct Ports {
    size_t row_starts;
    size_t state_starts;
    size_t state_slots;
    size_t states;
    size_t states_written;
  };

  StateRows(const Context& context, const Ports& ports, int64_t tokens, int64_t offset,
            int64_t width)
      : row_starts_(context.input<int32_t>(ports.row_starts, {any_size})),
        starts_(context.input<int32_t>(ports.state_starts, {row_starts_.shape[0] - 1})),
        slots_(context.input<int32_t>(ports.state_slots, {tokens})),
        states_(context.input<float>(ports.states, {any_size, any_size})),
        written_(context.output<float>(ports.states_written, {states_.shape[0], states_.shape[1]})),
        offset_(offset) {
    check_row_starts(context, row_starts_, tokens);
    check_slots(context, "state_starts", starts_.data, count());
    check_slots(context, "state_slots", slots_.data, tokens);
    if (width > states_.shape[1] - offset) {
      context.fail("states", "has " + std::to_string(states_.shape[1]) + " values of a state, " +
                                 std::to_string(offset) + " and " + std::to_string(width) +
                                 " are needed");
    }
    if (written_ != states_.data) {
      // The caller did not bind the states as the output too: give it a copy.
      const int64_t size = states_.shape[0] * states_.shape[1];
      std::memcpy(written_, states_.data, static_cast<size_t>(size) * sizeof(float));
    }
  }

  int64_t count() const { return row_starts_.shape[0] - 1; }
  // The tokens of a row.
  Span tokens(int64_t row) const { return {row_starts_.data[row], row_starts_.data[row + 1]}; }
  // The state before a row's first token; null where its sequence begins.
  const float* before(int64_t row) const { return slot(starts_.data[row]); }
  // Where to write the state after a token; null if it is not needed.
  float* after(int64_t token) const { return slot(slots_.data[token]); }

 private:
  float* slot(int64_t number) const {
    return number < 0 ? nullptr : written_ + number * states_.shape[1] + offset_;
  }

  void check_slots(const Context& context, const char* name, const int32_t* slots,
                   int64_t size) const {
    for (int64_t i = 0; i < size; ++i) {
      if (slots[i] < -1 || slots[i] >= states_.shape[0]) {
        context.fail(name, "names slot " + std::to_string(slots[i]) + ", there are " +
                               std::to_string(states_.shape[0]));
      }
    }
  }

  Tensor<const int32_t> row_starts_;
  Tensor<const int32_t> starts_;
  Tensor<const int32_t> slots_;
  Tensor<const float> states_;
  float* written_;
  int64_t offset_;
};

}  // namespace rocmforge
