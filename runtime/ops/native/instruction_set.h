// Which kernels this processor runs.
#pragma once

#include "kernel_table.h"

namespace rocmforge {

// The kernels in use: the widest set that processor and operating system support, unless forced.
const KernelTable& kernels();

// Forces a set by name, or "best"; false when it is unknown or cannot run here.
bool use_instruction_set(const char* name);

}  // namespace rocmforge
