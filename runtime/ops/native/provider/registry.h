// The kernels of ONNX's own operators, as the provider registers them.
#pragma once

#include "ep_api.h"

namespace rocmforge::hip {

// A registry of all of them, which the caller releases. Throws ForeignFailure.
ort::KernelRegistry* make_registry(const char* provider);

}  // namespace rocmforge::hip
