// A session's stream, and the events by which ONNX Runtime orders it and others.
#pragma once

#include "../hip/hip_api.h"
#include "ep_api.h"

namespace rocmforge::hip {

// Owned by ONNX Runtime, which releases it. It waits for what is before it in HIP's default stream,
// which waits for it in turn: uploads and the search of logits are there.
class SessionStream : public ort::StreamCallbacks {
 public:
  // Throws Failure.
  SessionStream();
  ~SessionStream();
  SessionStream(const SessionStream&) = delete;
  SessionStream& operator=(const SessionStream&) = delete;

 private:
  Stream stream_ = nullptr;
};

}  // namespace rocmforge::hip
