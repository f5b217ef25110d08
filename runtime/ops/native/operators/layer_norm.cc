#include "layer_norm.h"

#include "../instruction_set.h"

namespace rocmforge {

void LayerNorm::compute(const Context& context) const {
  const KernelTable& table = kernels();
  norm_rows(context, NormCall(context, NormCall::Weight::row), [&](const NormCall& row) {
    table.layer_norm(row.x, row.residual, row.weight, row.columns, epsilon_, row.y, row.sum);
  });
}

}  // namespace rocmforge
