// Memory of the GPU: buffers that live as long as an operator, and scratch for one call.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "../context.h"
#include "hip_api.h"

namespace rocmforge::hip {

// How often memory for weights could not be had since the library was loaded.
int64_t failed_allocations();

// Memory for weights, owned by one object. Throws Failure with the numbers where there is too
// little.
class DeviceBuffer {
 public:
  DeviceBuffer(const char* op, int64_t bytes, const std::string& what);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
};

// The provider's allocator, as one operator holds it.
class ScratchMemory {
 public:
  explicit ScratchMemory(const Attributes& attributes) : allocator_(attributes.allocator()) {}
  ~ScratchMemory() { ort::release_allocator(allocator_); }
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;

 private:
  friend class Scratch;
  ort::Allocator* allocator_;
};

// Intermediate results of one call. The memory is returned once the launches are in the stream:
// what the provider gives it to next is computed after them in the same stream.
class Scratch {
 public:
  explicit Scratch(const ScratchMemory& memory) : allocator_(memory.allocator_) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(allocate(count * int64_t{sizeof(T)}));
  }

 private:
  void* allocate(int64_t bytes);

  ort::Allocator* allocator_;
  static constexpr int most = 16;
  void* taken_[most] = {};
  int count_ = 0;
};

}  // namespace rocmforge::hip
