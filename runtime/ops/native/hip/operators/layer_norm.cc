#include "layer_norm.h"

namespace rocmforge::hip {

void LayerNorm::compute(const Context& context) const {
  const NormCall call(context, NormCall::Weight::row);
  kernel_(context.stream(), {call.rows}, call.y, call.sum, call.x, call.residual, call.weight,
          static_cast<int32_t>(call.columns), call.residual != nullptr, call.sum != nullptr,
          epsilon_);
}

}  // namespace rocmforge::hip
