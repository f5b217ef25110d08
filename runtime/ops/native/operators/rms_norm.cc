#include "rms_norm.h"

#include "../instruction_set.h"

namespace rocmforge {

void RMSNorm::compute(const Context& context) const {
  const KernelTable& table = kernels();
  norm_rows(context, NormCall(context, NormCall::Weight::group), [&](const NormCall& row) {
    table.rms_norm(row.x, row.residual, row.weight, row.columns, row.width, epsilon_, row.y,
                   row.sum);
  });
}

}  // namespace rocmforge
