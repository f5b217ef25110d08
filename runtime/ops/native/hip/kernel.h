// Launches of compiled kernels, with the types of their arguments checked against what was
// compiled.
//
// Kernels come from the build's manifest, which Python reads (runtime/device): each is added by its
// name before a session is made, and looked up by the operators' constructors.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hip_api.h"

namespace rocmforge::hip {

// One code object and how it is launched. Its module is loaded by the first look-up.
struct CompiledKernel {
  std::string name;                // "one_row.q4_k"
  std::string symbol;              // of its function
  std::vector<std::string> types;  // of its arguments, as Triton names them
  uint32_t threads;                // of a block
  uint32_t lds_bytes;
  std::string code;                          // the code object
  std::map<std::string, int64_t> constants;  // what it was compiled with, tile sizes above all
  Function function = nullptr;
};

// Adds a kernel. One of that name with other code takes the place of the first for operators that
// are made from then on.
void add_kernel(CompiledKernel kernel);

// The kernel of that name, loaded. Throws Failure where there is none, where its arguments are not
// of these types ("*" means any pointer), and if the device refuses it.
std::shared_ptr<const CompiledKernel> find_kernel(const std::string& name,
                                                  std::initializer_list<std::string_view> types);

struct Grid {
  int64_t x, y = 1, z = 1;
};

// Puts a launch on the stream. Nothing is launched where the grid is empty.
void launch(const CompiledKernel& kernel, Stream stream, Grid grid, void** arguments);

template <typename T>
constexpr std::string_view type_name = "";
template <>
inline constexpr std::string_view type_name<int32_t> = "i32";
template <>
inline constexpr std::string_view type_name<int64_t> = "i64";
template <>
inline constexpr std::string_view type_name<float> = "fp32";
template <>
inline constexpr std::string_view type_name<const float*> = "*fp32";
template <>
inline constexpr std::string_view type_name<float*> = "*fp32";
template <>
inline constexpr std::string_view type_name<const int32_t*> = "*i32";
template <>
inline constexpr std::string_view type_name<int32_t*> = "*i32";
template <>
inline constexpr std::string_view type_name<const uint16_t*> = "*fp16";
template <>
inline constexpr std::string_view type_name<uint16_t*> = "*fp16";
template <>
inline constexpr std::string_view type_name<const void*> = "*";

// A kernel that takes arguments of these types in this order.
template <typename... Arguments>
class Kernel {
 public:
  explicit Kernel(const std::string& name)
      : compiled_(find_kernel(name, {type_name<Arguments>...})) {}

  int64_t constant(const char* name) const { return compiled_->constants.at(name); }

  void operator()(Stream stream, Grid grid, Arguments... arguments) const {
    // Behind a kernel's own arguments Triton takes two pointers to scratch memory, unused here.
    void* none = nullptr;
    void* pointers[] = {&arguments..., &none, &none};
    launch(*compiled_, stream, grid, pointers);
  }

 private:
  std::shared_ptr<const CompiledKernel> compiled_;
};

constexpr int64_t ceiling_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace rocmforge::hip
