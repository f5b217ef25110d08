#include "device_memory.h"

#include <atomic>

namespace rocmforge::hip {
namespace {

constexpr int64_t mebibyte = 1 << 20;

std::atomic<int64_t> failed{0};

std::string mebibytes(size_t bytes) {
  return std::to_string((static_cast<int64_t>(bytes) + mebibyte - 1) / mebibyte);
}

}  // namespace

int64_t failed_allocations() { return failed.load(); }

DeviceBuffer::DeviceBuffer(const char* op, int64_t bytes, const std::string& what) {
  void* memory = nullptr;
  const auto wanted = static_cast<size_t>(bytes);
  if (api().malloc(&memory, wanted) != 0) {
    failed.fetch_add(1);
    size_t free = 0, total = 0;
    check(api().memory_info(&free, &total), "asking for the free GPU memory");
    throw Failure(op, what,
                  "need " + mebibytes(wanted) + " MiB of GPU memory more, " + mebibytes(free) +
                      " of " + mebibytes(total) + " MiB are free");
  }
  data_ = static_cast<char*>(memory);
}

DeviceBuffer::~DeviceBuffer() { api().free(data_); }

Scratch::~Scratch() {
  for (int i = 0; i < count_; ++i) {
    if (ort::Status* status = ort::deallocate(allocator_, taken_[i])) ort::release_status(status);
  }
}

void* Scratch::allocate(int64_t bytes) {
  if (count_ == most) throw std::logic_error("an operator takes more scratch memory than foreseen");
  void* memory = nullptr;
  if (ort::Status* status = ort::allocate(allocator_, static_cast<size_t>(bytes), &memory)) {
    throw ForeignFailure{status};
  }
  if (memory == nullptr && bytes > 0) {
    throw Failure("memory", mebibytes(static_cast<size_t>(bytes)) + " MiB",
                  "for intermediate results are not available");
  }
  taken_[count_++] = memory;
  return memory;
}

}  // namespace rocmforge::hip
