#include "instruction_set.h"

#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace rocmforge {

extern const KernelTable scalar_kernels;
#if defined(__x86_64__)
extern const KernelTable avx2_kernels;
extern const KernelTable avx512_kernels;
#endif

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf) {
  Registers r;
  __get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool has(unsigned word, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if ((word >> bit & 1u) == 0) return false;
  }
  return true;
}

// The register states that the operating system saves (XCR0); 0 without XGETBV.
unsigned saved_states() {
  if (!has(cpuid(1).ecx, {27})) return 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool supports_avx2() {
  const bool saved = has(saved_states(), {1, 2});     // xmm, ymm
  return saved && has(cpuid(1).ecx, {12, 28, 29}) &&  // FMA, AVX, F16C
         has(cpuid(7).ebx, {5});                      // AVX2
}

bool supports_avx512() {
#ifdef ROCMFORGE_EMULATE_AVX512
  return supports_avx2();
#else
  return supports_avx2() && has(saved_states(), {5, 6, 7}) &&  // opmask, zmm
         has(cpuid(7).ebx, {16, 17, 30, 31}) &&                // F, DQ, BW, VL
         has(cpuid(7).ecx, {11});                              // VNNI
#endif
}

#endif

const KernelTable& best() {
#if defined(__x86_64__)
  if (supports_avx512()) return avx512_kernels;
  if (supports_avx2()) return avx2_kernels;
#endif
  return scalar_kernels;
}

const KernelTable* named(const char* name) {
  if (std::strcmp(name, "best") == 0) return &best();
  if (std::strcmp(name, "scalar") == 0) return &scalar_kernels;
#if defined(__x86_64__)
  if (std::strcmp(name, "avx2") == 0 && supports_avx2()) return &avx2_kernels;
  if (std::strcmp(name, "avx512") == 0 && supports_avx512()) return &avx512_kernels;
#endif
  return nullptr;
}

std::atomic<const KernelTable*>& chosen() {
  static std::atomic<const KernelTable*> table = &best();
  return table;
}

}  // namespace

const KernelTable& kernels() { return *chosen().load(std::memory_order_acquire); }

bool use_instruction_set(const char* name) {
  const KernelTable* table = named(name);
  if (table != nullptr) chosen().store(table, std::memory_order_release);
  return table != nullptr;
}

}  // namespace rocmforge
