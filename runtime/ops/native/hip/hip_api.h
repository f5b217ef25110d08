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
using Event = void*;

// Of streams: work in HIP's default stream and in them is done in the order of the calls.
constexpr unsigned stream_that_waits = 0;
// Of events that only order work.
constexpr unsigned event_without_times = 2;

enum class CopyKind : int { host_to_device = 1, device_to_host = 2, device_to_device = 3 };

// What every call gives; zero is success.
using Error = int;

// Immutable once it is loaded.
struct Api {
  Error (*set_device)(int) = nullptr;
  Error (*malloc)(void** memory, size_t bytes) = nullptr;
  Error (*free)(void* memory) = nullptr;
  Error (*memory_info)(size_t* free, size_t* total) = nullptr;
  Error (*memset)(void* memory, int value, size_t bytes) = nullptr;
  Error (*memcpy)(void* to, const void* from, size_t bytes, CopyKind) = nullptr;
  Error (*memcpy_async)(void* to, const void* from, size_t bytes, CopyKind, Stream) = nullptr;
  Error (*memcpy_rows)(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                       size_t height, CopyKind, Stream) = nullptr;
  Error (*memset_async)(void* memory, int value, size_t bytes, Stream) = nullptr;
  Error (*host_malloc)(void** memory, size_t bytes, unsigned flags) = nullptr;
  Error (*host_free)(void* memory) = nullptr;
  Error (*stream_create)(Stream*, unsigned flags) = nullptr;
  Error (*stream_destroy)(Stream) = nullptr;
  Error (*stream_synchronize)(Stream) = nullptr;
  Error (*stream_wait)(Stream, Event, unsigned flags) = nullptr;
  Error (*event_create)(Event*, unsigned flags) = nullptr;
  Error (*event_destroy)(Event) = nullptr;
  Error (*event_record)(Event, Stream) = nullptr;
  Error (*event_synchronize)(Event) = nullptr;
  Error (*module_load)(Module*, const void* code) = nullptr;
  Error (*module_function)(Function*, Module, const char* symbol) = nullptr;
  Error (*launch)(Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                  unsigned block_y, unsigned block_z, unsigned lds_bytes, Stream, void** arguments,
                  void** extra) = nullptr;
  const char* (*error_text)(Error) = nullptr;
};

// Chooses the library to load and the GPU, before anything else is called.
void use(const std::string& library, int device);

// The functions, for the chosen GPU. Throws Failure where the library or a function of it is
// missing.
const Api& api();

// Throws Failure unless `error` is success. `doing` says what was asked for.
void check(Error error, const std::string& doing);

}  // namespace rocmforge::hip
