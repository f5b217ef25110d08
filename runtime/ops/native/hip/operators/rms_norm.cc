#include "rms_norm.h"

namespace rocmforge::hip {

void RMSNorm::compute(const Context& context) const {
  const NormCall call(context, NormCall::Weight::group);
  norm_(context.stream(), call.y, call.sum, call.x, call.residual, call.weight, call.rows,
        call.columns, call.width, epsilon_);
}

}  // namespace rocmforge::hip
