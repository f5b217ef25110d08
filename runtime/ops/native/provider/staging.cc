#include "staging.h"

#include <algorithm>
#include <cstring>

namespace rocmforge::hip {
namespace {

constexpr size_t half_bytes = 1 << 20;
constexpr Stream default_stream = nullptr;

}  // namespace

Staging::~Staging() {
  for (const Half& half : halves_) {
    if (half.copied != nullptr) api().event_destroy(half.copied);
    if (half.memory != nullptr) api().host_free(half.memory);
  }
}

void Staging::upload(void* to, const void* from, size_t bytes) {
  const std::lock_guard<std::mutex> guard(lock_);
  prepare();
  while (bytes > 0) {
    if (halves_[current_].used == half_bytes) use_other_half();
    Half& half = halves_[current_];
    const size_t some = std::min(bytes, half_bytes - half.used);
    std::memcpy(half.memory + half.used, from, some);
    check(api().memcpy_async(to, half.memory + half.used, some, CopyKind::host_to_device,
                             default_stream),
          "copying to the GPU");
    half.used += some;
    to = static_cast<char*>(to) + some;
    from = static_cast<const char*>(from) + some;
    bytes -= some;
  }
}

void Staging::prepare() {
  for (Half& half : halves_) {
    if (half.memory == nullptr) {
      check(api().host_malloc(reinterpret_cast<void**>(&half.memory), half_bytes, 0),
            "allocating pinned memory");
    }
    if (half.copied == nullptr) {
      check(api().event_create(&half.copied, event_without_times), "making an event");
    }
  }
}

void Staging::use_other_half() {
  check(api().event_record(halves_[current_].copied, default_stream), "recording a copy");
  current_ = 1 - current_;
  // An event that was never recorded has happened.
  check(api().event_synchronize(halves_[current_].copied), "waiting for a copy");
  halves_[current_].used = 0;
}

}  // namespace rocmforge::hip
