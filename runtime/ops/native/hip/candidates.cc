#include "candidates.h"

namespace rocmforge::hip {
namespace {

constexpr int64_t bytes_of_one = sizeof(float) + sizeof(int32_t);

}  // namespace

char* Candidates::memory(int64_t bytes) {
  if (bytes > memory_bytes_) {
    memory_.reset();
    memory_bytes_ = 0;
    memory_ = std::make_unique<DeviceBuffer>("candidates", bytes, "search");
    memory_bytes_ = bytes;
  }
  return memory_->data();
}

void Candidates::find(const float* logits, int64_t rows, int64_t columns, void* found) {
  if (rows == 0) return;
  const int64_t block = kernel_.constant("BLOCK");
  const int64_t first = ceiling_divide(columns, block) * count();
  const int64_t second = ceiling_divide(first, block) * count();
  // What one launch finds is searched by the next, which writes to the other place.
  char* const found_first = memory(rows * (first + second) * bytes_of_one);
  char* const places[] = {found_first, found_first + rows * first * bytes_of_one};
  const Stream stream = nullptr;
  const float* searched = logits;
  const int32_t* their_tokens = nullptr;
  int64_t blocks = 0;
  for (int64_t launches = 0; blocks != 1; ++launches) {
    blocks = ceiling_divide(columns, block);
    auto* best = reinterpret_cast<float*>(places[launches % 2]);
    auto* best_tokens = reinterpret_cast<int32_t*>(best + rows * blocks * count());
    kernel_(stream, {rows, blocks}, best, best_tokens, searched, their_tokens,
            static_cast<int32_t>(columns), their_tokens != nullptr);
    searched = best;
    their_tokens = best_tokens;
    columns = blocks * count();
  }
  check(api().memcpy(found, searched, static_cast<size_t>(rows * count()) * bytes_of_one,
                     CopyKind::device_to_host),
        "copying candidates");
}

}  // namespace rocmforge::hip
