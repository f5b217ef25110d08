// The part of ONNX Runtime's C interface that a custom-op library needs.
//
// The wheels ship no headers. OrtApi only ever grows at its end, so a function is found by its slot
// in the table; the slots below hold from API version 21 on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rocmforge::ort {

struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;
struct ShapeInferContext;
struct CustomOp;
struct Allocator;

constexpr uint32_t api_version = 21;

struct ApiBase {
  void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

enum class ElementType : int { float32 = 1, uint8 = 2, int32 = 6, int64 = 7, float16 = 10 };
enum class Presence : int { required = 0, optional = 1 };
// Where an input is read: where the provider computes, or on the host.
enum class MemoryType : int { host = -2, host_output = -1, provider = 0 };

// Set by RegisterCustomOps before anything else runs; the same table for every session.
inline void* const* api = nullptr;

template <typename Signature>
struct Function;

template <typename Result, typename... Arguments>
struct Function<Result(Arguments...)> {
  size_t slot;
  Result operator()(Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(api[slot])(arguments...);
  }
};

constexpr Function<Status*(int code, const char* message)> create_status{0};
constexpr Function<Status*(const char* name, Domain**)> create_domain{26};
constexpr Function<Status*(Domain*, const CustomOp*)> add_operator{27};
constexpr Function<Status*(SessionOptions*, Domain*)> add_domain{28};
constexpr Function<Status*(Value*, void** data)> tensor_data{51};
constexpr Function<Status*(const ShapeInfo*, size_t* rank)> shape_rank{61};
constexpr Function<Status*(const ShapeInfo*, int64_t* dimensions, size_t rank)> shape_dimensions{
    62};
constexpr Function<Status*(const Value*, ShapeInfo**)> tensor_shape{65};
constexpr Function<Status*(Allocator*, size_t bytes, void** memory)> allocate{75};
constexpr Function<Status*(Allocator*, void* memory)> deallocate{76};
constexpr Function<Status*(const KernelInfo*, const char* name, float*)> attribute_float{85};
constexpr Function<Status*(const KernelInfo*, const char* name, int64_t*)> attribute_int{86};
constexpr Function<Status*(const KernelInfo*, const char* name, char*, size_t* size)>
    attribute_string{87};
constexpr Function<Status*(const KernelContext*, size_t*)> input_count{88};
constexpr Function<Status*(const KernelContext*, size_t*)> output_count{89};
constexpr Function<Status*(const KernelContext*, size_t index, const Value**)> input_value{90};
constexpr Function<Status*(KernelContext*, size_t index, const int64_t*, size_t rank, Value**)>
    output_value{91};
constexpr Function<void(Status*)> release_status{93};
constexpr Function<void(ShapeInfo*)> release_shape{99};
constexpr Function<void(Allocator*)> release_allocator{132};
constexpr Function<Status*(const KernelContext*, void** stream)> compute_stream{193};
constexpr Function<Status*(const KernelInfo*, size_t index, int* is_constant, const Value**)>
    constant_input{249};
constexpr Function<Status*(const KernelContext*, void (*)(void*, size_t), size_t total,
                           size_t batches, void*)>
    parallel_for{274};
constexpr Function<Status*(const KernelInfo*, MemoryType, Allocator**)> kernel_allocator{278};
// From version 23 on.
constexpr Function<Status*(const Value*, size_t* bytes)> tensor_bytes{318};

// The callbacks of one operator, in ONNX Runtime's order.
struct CustomOp {
  uint32_t version = api_version;
  void* create_kernel_v1 = nullptr;
  const char* (*name)(const CustomOp*) = nullptr;
  const char* (*provider)(const CustomOp*) = nullptr;
  ElementType (*input_type)(const CustomOp*, size_t) = nullptr;
  size_t (*input_count)(const CustomOp*) = nullptr;
  ElementType (*output_type)(const CustomOp*, size_t) = nullptr;
  size_t (*output_count)(const CustomOp*) = nullptr;
  void* compute_v1 = nullptr;
  void (*destroy)(void* kernel) = nullptr;
  Presence (*input_presence)(const CustomOp*, size_t) = nullptr;
  Presence (*output_presence)(const CustomOp*, size_t) = nullptr;
  MemoryType (*input_memory)(const CustomOp*, size_t) = nullptr;
  int (*variadic_input_minimum)(const CustomOp*) = nullptr;
  int (*variadic_input_same_type)(const CustomOp*) = nullptr;
  int (*variadic_output_minimum)(const CustomOp*) = nullptr;
  int (*variadic_output_same_type)(const CustomOp*) = nullptr;
  Status* (*create)(const CustomOp*, void* const* api, const KernelInfo*, void** kernel) = nullptr;
  Status* (*compute)(void* kernel, KernelContext*) = nullptr;
  Status* (*infer_shapes)(const CustomOp*, ShapeInferContext*) = nullptr;
  int (*first_version)(const CustomOp*) = nullptr;
  int (*last_version)(const CustomOp*) = nullptr;
  size_t (*may_inplace)(int** inputs, int** outputs) = nullptr;
  void (*release_may_inplace)(int* inputs, int* outputs) = nullptr;
  size_t (*aliases)(int** inputs, int** outputs) = nullptr;
  void (*release_aliases)(int* inputs, int* outputs) = nullptr;
};
static_assert(sizeof(CustomOp) == 208, "the layout of OrtCustomOp at version 21");

}  // namespace rocmforge::ort
