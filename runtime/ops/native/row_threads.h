// Threads that share the rows of one call from Python.
#pragma once

#include <cstdint>
#include <functional>

namespace rocmforge {

// Calls `work` once for each row, in this thread and, where the rows hold enough values, in others
// of the process too. `work` must not throw. Any thread may call this.
void for_each_row(int64_t rows, int64_t row_values, const std::function<void(int64_t)>& work);

// How many threads a call may use, its own included; 1 at first.
void use_row_threads(int64_t count);

}  // namespace rocmforge
