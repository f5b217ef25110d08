#include "simd_avx2.h"

#define ROCMFORGE_LAYER avx2
#include "table.h"

namespace rocmforge {
extern const KernelTable avx2_kernels;
const KernelTable avx2_kernels = avx2::kernel_table;
}  // namespace rocmforge
