// The execution provider of one session: which nodes it computes, with which memory and stream.
#pragma once

#include "ep_api.h"

namespace rocmforge::hip {

constexpr const char* provider_name = "ROCmForgeExecutionProvider";
constexpr const char* provider_version = "1.0.0";

// Memory straight from HIP: the environment's, which sessions share. Owned by ONNX Runtime, which
// has the factory release it.
ort::AllocatorCallbacks* make_plain_allocator(const ort::MemoryInfo* info);

void release_allocator(ort::AllocatorCallbacks* allocator);

// Owned by ONNX Runtime, which has the factory release it.
class Provider : public ort::Provider {
 public:
  // Throws ForeignFailure.
  explicit Provider(const ort::MemoryInfo* memory);
  ~Provider();
  Provider(const Provider&) = delete;
  Provider& operator=(const Provider&) = delete;

 private:
  const ort::MemoryInfo* memory_;
  ort::KernelRegistry* registry_;
};

}  // namespace rocmforge::hip
