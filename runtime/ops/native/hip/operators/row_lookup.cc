#include "row_lookup.h"

namespace rocmforge::hip {

RowLookup::RowLookup(const Attributes& attributes)
    : weights_(uploaded(attributes, name, 0, inputs[0], attributes.text("format"),
                        attributes.integer("columns", 1))),
      kernel_("row_lookup." + weights_->layout().name) {}

void RowLookup::compute(const Context& context) const {
  const auto ids = context.input<int32_t>(1, {any_size});
  const int64_t tokens = ids.shape[0], parts = weights_->parts();
  float* rows = context.output<float>(0, {tokens, weights_->columns()});
  const PlaneLayout& layout = weights_->layout();
  kernel_(context.stream(), {tokens, ceiling_divide(parts, kernel_.constant("PARTS"))}, rows,
          ids.data, weights_->plane(0), weights_->plane(1), weights_->plane(2), weights_->plane(3),
          layout.table[0], layout.table[1], layout.unit_factor, layout.zero,
          static_cast<int32_t>(weights_->rows()), static_cast<int32_t>(parts));
}

}  // namespace rocmforge::hip
