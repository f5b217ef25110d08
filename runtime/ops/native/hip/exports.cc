// What Python calls to make the launcher ready and to hold the page pool. A function that can fail
// gives null, or a text that says why, which holds until the thread's next call.
#include <cstring>
#include <sstream>

#include "../export.h"
#include "candidates.h"
#include "device_memory.h"
#include "kernel.h"

namespace rocmforge::hip {
namespace {

template <typename Work>
const char* failure_of(const Work& work) {
  thread_local std::string text;
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    text = error.what();
  }
  return text.c_str();
}

}  // namespace
}  // namespace rocmforge::hip

// The path of HIP's library and the number of the GPU, before anything else is called.
ROCMFORGE_EXPORT void rocmforge_hip_use(const char* library, int64_t device) {
  rocmforge::hip::use(library, static_cast<int>(device));
}

// types: of the arguments, parted by spaces; constants: names and values in turn, parted by spaces.
ROCMFORGE_EXPORT const char* rocmforge_hip_add_kernel(const char* name, const char* symbol,
                                                      const char* types, const char* constants,
                                                      int64_t threads, int64_t lds_bytes,
                                                      const char* code, int64_t code_bytes) {
  return rocmforge::hip::failure_of([&] {
    rocmforge::hip::CompiledKernel kernel;
    kernel.name = name;
    kernel.symbol = symbol;
    kernel.threads = static_cast<uint32_t>(threads);
    kernel.lds_bytes = static_cast<uint32_t>(lds_bytes);
    kernel.code.assign(code, static_cast<size_t>(code_bytes));
    std::istringstream type_words(types), constant_words(constants);
    std::string word;
    while (type_words >> word) kernel.types.push_back(word);
    int64_t value = 0;
    while (constant_words >> word >> value) kernel.constants[word] = value;
    rocmforge::hip::add_kernel(std::move(kernel));
  });
}

// Number of failed allocations for weights: why ONNX Runtime made no session.
ROCMFORGE_EXPORT int64_t rocmforge_hip_failed_allocations() {
  return rocmforge::hip::failed_allocations();
}

// Bytes of the GPU's memory.
ROCMFORGE_EXPORT const char* rocmforge_hip_memory(int64_t* free, int64_t* total) {
  return rocmforge::hip::failure_of([&] {
    size_t free_bytes = 0, total_bytes = 0;
    rocmforge::hip::check(rocmforge::hip::api().memory_info(&free_bytes, &total_bytes),
                          "asking for the free GPU memory");
    *free = static_cast<int64_t>(free_bytes);
    *total = static_cast<int64_t>(total_bytes);
  });
}

// GPU memory that is zero.
ROCMFORGE_EXPORT const char* rocmforge_hip_allocate(int64_t bytes, void** memory) {
  return rocmforge::hip::failure_of([&] {
    const auto& hip = rocmforge::hip::api();
    const std::string wanted = std::to_string(bytes) + " bytes of GPU memory";
    rocmforge::hip::check(hip.malloc(memory, static_cast<size_t>(bytes)), "allocating " + wanted);
    rocmforge::hip::check(hip.memset(*memory, 0, static_cast<size_t>(bytes)), "clearing " + wanted);
  });
}

ROCMFORGE_EXPORT void rocmforge_hip_free(void* memory) { rocmforge::hip::api().free(memory); }

// Copies from the GPU's memory to the host's.
ROCMFORGE_EXPORT const char* rocmforge_hip_read(void* to, const void* from, int64_t bytes) {
  return rocmforge::hip::failure_of([&] {
    rocmforge::hip::check(rocmforge::hip::api().memcpy(to, from, static_cast<size_t>(bytes),
                                                       rocmforge::hip::CopyKind::device_to_host),
                          "reading " + std::to_string(bytes) + " bytes of GPU memory");
  });
}

// A search for candidates, and how many it finds in a row.
ROCMFORGE_EXPORT const char* rocmforge_hip_make_candidates(void** search, int64_t* count) {
  return rocmforge::hip::failure_of([&] {
    auto made = std::make_unique<rocmforge::hip::Candidates>();
    *count = made->count();
    *search = made.release();
  });
}

ROCMFORGE_EXPORT const char* rocmforge_hip_find_candidates(void* search, const float* logits,
                                                           int64_t rows, int64_t columns,
                                                           void* found) {
  return rocmforge::hip::failure_of([&] {
    static_cast<rocmforge::hip::Candidates*>(search)->find(logits, rows, columns, found);
  });
}

ROCMFORGE_EXPORT void rocmforge_hip_free_candidates(void* search) {
  delete static_cast<rocmforge::hip::Candidates*>(search);
}
