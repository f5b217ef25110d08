// Copies of tensors between the memories of the host and of the GPU.
#pragma once

#include "ep_api.h"
#include "staging.h"

namespace rocmforge::hip {

// The vendor of the memory that is ours: AMD's number on the PCI bus.
constexpr uint32_t amd = 0x1002;

// The pinned memory that all sessions copy through.
Staging& staging();

// Copies to the host, which waits. Throws Failure.
void download(void* to, const void* from, size_t bytes);

// Owned by ONNX Runtime, which releases it.
class Transfer : public ort::TransferCallbacks {
 public:
  Transfer();
};

}  // namespace rocmforge::hip
