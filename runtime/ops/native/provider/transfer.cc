#include "transfer.h"

#include "../operator.h"

namespace rocmforge::hip {
namespace {

bool is_ours(const ort::MemoryDevice* memory) {
  return ort::memory_kind(memory) == ort::DeviceKind::gpu && ort::memory_vendor(memory) == amd;
}

bool is_on_host(const ort::MemoryDevice* memory) {
  return ort::memory_kind(memory) == ort::DeviceKind::cpu;
}

void copy_tensor(const ort::Value* from, ort::Value* to, Stream stream) {
  void *source = nullptr, *target = nullptr;
  size_t bytes = 0;
  require(ort::tensor_data(const_cast<ort::Value*>(from), &source));
  require(ort::tensor_data(to, &target));
  require(ort::tensor_bytes(from, &bytes));
  if (bytes == 0) return;
  if (source == nullptr || target == nullptr) {
    throw Failure("memory", "of a tensor",
                  "of " + std::to_string(bytes) + " bytes is not available");
  }
  if (!is_ours(ort::memory_of_value(from))) {
    staging().upload(target, source, bytes);
  } else if (!is_ours(ort::memory_of_value(to))) {
    download(target, source, bytes);
  } else {
    check(api().memcpy_async(target, source, bytes, CopyKind::device_to_device, stream),
          "copying a tensor");
  }
}

}  // namespace

Staging& staging() {
  // Never destroyed: at the end of the process HIP may be gone before it.
  static Staging& all = *new Staging;
  return all;
}

void download(void* to, const void* from, size_t bytes) {
  // On the default stream, which waits for those of sessions.
  check(api().memcpy(to, from, bytes, CopyKind::device_to_host), "copying to the host");
}

Transfer::Transfer() {
  release = [](ort::TransferCallbacks* self) { delete static_cast<Transfer*>(self); };
  can_copy = [](const ort::TransferCallbacks*, const ort::MemoryDevice* from,
                const ort::MemoryDevice* to) {
    return (is_ours(from) && (is_ours(to) || is_on_host(to))) || (is_on_host(from) && is_ours(to));
  };
  copy = [](ort::TransferCallbacks*, const ort::Value** from, ort::Value** to,
            ort::SyncStream** streams, size_t count) {
    return guard("copy", [&] {
      for (size_t i = 0; i < count; ++i) {
        const bool has_stream = streams != nullptr && streams[i] != nullptr;
        copy_tensor(from[i], to[i], has_stream ? ort::stream_handle(streams[i]) : nullptr);
      }
    });
  };
}

}  // namespace rocmforge::hip
