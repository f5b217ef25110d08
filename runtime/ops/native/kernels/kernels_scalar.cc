#include "simd_scalar.h"

#define ROCMFORGE_LAYER scalar
#include "table.h"

namespace rocmforge {
extern const KernelTable scalar_kernels;
const KernelTable scalar_kernels = scalar::kernel_table;
}  // namespace rocmforge
