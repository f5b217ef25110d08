#include "simd_avx512.h"

#define ROCMFORGE_LAYER avx512
#include "table.h"

namespace rocmforge {
extern const KernelTable avx512_kernels;
const KernelTable avx512_kernels = avx512::kernel_table;
}  // namespace rocmforge
