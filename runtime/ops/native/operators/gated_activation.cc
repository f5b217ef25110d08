#include "gated_activation.h"

#include "../instruction_set.h"
#include "../work_units.h"

namespace rocmforge {

GatedActivation::GatedActivation(const Attributes& attributes) {
  const std::string activation = attributes.text("activation");
  if (activation == "silu") {
    activation_ = Activation::silu;
  } else if (activation == "gelu") {
    activation_ = Activation::gelu;
  } else {
    attributes.fail("activation", "'" + activation + "' is unknown");
  }
}

void GatedActivation::compute(const Context& context) const {
  const auto gate = context.input<float>(0, {any_size, any_size});
  const int64_t rows = gate.shape[0], columns = gate.shape[1];
  const auto up = context.input<float>(1, {rows, columns});
  float* y = context.output<float>(0, {rows, columns});

  const KernelTable& table = kernels();
  const auto apply = activation_ == Activation::silu ? table.silu : table.gelu;
  constexpr int64_t work_of_exponential = 8;
  const WorkUnits units(rows, columns * work_of_exponential);
  context.parallel_for(units.count(), [&](int64_t unit) {
    const int64_t at = units.begin(unit) * columns;
    apply(gate.data + at, up.data + at, units.end(unit) * columns - at, y + at);
  });
}

}  // namespace rocmforge
