// The part of the HIP runtime that the launcher calls, found when it is first needed: the library
// that holds the operators loads on machines without ROCm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace rocmforge::hip {

using Stream = void*;
using Module = void*;
using Function = void*;

enum class CopyKind : int { host_to_device = 1, device_to_host = 2, device_to_device = 3 };

// What every call gives; zero is success.
using Error = int;

// Immutable once it is loaded.
struct Api {
  Error (*malloc)(void** memory, size_t bytes) = nullptr;
  Error (*free)(void* memory) = nullptr;
  Error (*memory_info)(size_t* free, size_t* total) = nullptr;
  Error (*memset)(void* memory, int value, size_t bytes) = nullptr;
  Error (*memcpy)(void* to, const void* from, size_t bytes, CopyKind) = nullptr;
  Error (*memcpy_async)(void* to, const void* from, size_t bytes, CopyKind, Stream) = nullptr;
  Error (*module_load)(Module*, const void* code) = nullptr;
  Error (*module_function)(Function*, Module, const char* symbol) = nullptr;
  Error (*launch)(Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                  unsigned block_y, unsigned block_z, unsigned lds_bytes, Stream, void** arguments,
                  void** extra) = nullptr;
  const char* (*error_text)(Error) = nullptr;
};

// Throws Failure where the library or a function of it is missing.
const Api& api();

// Throws Failure unless `error` is success. `doing` says what was asked for.
void check(Error error, const std::string& doing);

}  // namespace rocmforge::hip
