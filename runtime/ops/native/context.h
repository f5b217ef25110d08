// What a kernel sees of ONNX Runtime: attributes when it is made, checked tensors when it runs.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>

#include "ort_api.h"
#include "shared_range.h"

namespace rocmforge {

// A failure that the user can cause; it becomes an OrtStatus with this message.
class Failure : public std::runtime_error {
 public:
  // "Operator: field problem".
  Failure(const char* op, const std::string& field, const std::string& problem)
      : std::runtime_error(std::string(op) + ": " + field + " " + problem) {}
};

// ONNX Runtime's own status on its way through our frames, back to the caller who owns it.
struct ForeignFailure {
  ort::Status* status;
};

// Throws ForeignFailure unless ONNX Runtime did what it was asked for.
inline void require(ort::Status* status) {
  if (status != nullptr) throw ForeignFailure{status};
}

// One input or output in an operator's declaration.
struct Port {
  const char* name;
  ort::ElementType type;
  ort::Presence presence = ort::Presence::required;
};

constexpr size_t maximum_rank = 6;
constexpr int64_t any_size = -1;
// Of what attributes count: a product of two of them is no overflow.
constexpr int64_t most_size = std::numeric_limits<int32_t>::max();

using Shape = std::array<int64_t, maximum_rank>;

// A tensor's memory and shape; an absent optional one is false.
template <typename T>
struct Tensor {
  T* data = nullptr;
  Shape shape{};
  explicit operator bool() const { return data != nullptr; }
};

// The memory and shape of any tensor, of rank 0 where it is absent.
struct AnyTensor {
  const void* data = nullptr;
  size_t rank = 0;
  Shape shape{};
  std::span<const int64_t> sizes() const { return {shape.data(), std::min(rank, maximum_rank)}; }
};

// The attributes of one node, read while its kernel is made.
class Attributes {
 public:
  Attributes(const char* op, const ort::KernelInfo* info) : op_(op), info_(info) {}

  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t minimum) const;
  int64_t integer_or(const char* name, int64_t otherwise, int64_t minimum) const;
  float real(const char* name) const;
  float real_or(const char* name, float otherwise) const;
  std::string text(const char* name) const;
  std::string text_or(const char* name, const std::string& otherwise) const;

  // The input at `index`, which must be constant and of that shape. An absent optional one is
  // false.
  template <typename T>
  Tensor<const T> constant(size_t index, const Port& port,
                           std::initializer_list<int64_t> expected) const {
    Tensor<const T> tensor;
    tensor.data = static_cast<const T*>(constant_memory(index, port, expected, tensor.shape));
    return tensor;
  }
  // The input at `index` if it is constant and there, else one that is absent.
  AnyTensor constant(size_t index) const;
  // Of the memory where the provider computes; the caller releases it.
  ort::Allocator* allocator() const;
  [[noreturn]] void fail(const std::string& field, const std::string& problem) const;

 private:
  const void* constant_memory(size_t index, const Port& port,
                              std::initializer_list<int64_t> expected, Shape& shape) const;

  const char* op_;
  const ort::KernelInfo* info_;
};

// The tensors of one call, and ONNX Runtime's thread pool.
class Context {
 public:
  // `constants`: inputs that the node's kernel noted when it was made, by index; others are
  // read through ONNX Runtime, which takes longer.
  Context(const char* op, std::span<const Port> inputs, std::span<const AnyTensor> constants,
          ort::KernelContext* context)
      : op_(op), inputs_(inputs), constants_(constants), context_(context) {}

  // The input at `index`, whose shape must be `expected` (any_size matches everything).
  template <typename T>
  Tensor<const T> input(size_t index, std::initializer_list<int64_t> expected) const {
    Tensor<const T> tensor;
    tensor.data = static_cast<const T*>(input_memory(index, expected, tensor.shape));
    return tensor;
  }

  // The input at `index`, of any shape; false where it is absent.
  AnyTensor input(size_t index) const { return tensor(index); }

  // Of the input at `index`, which is there.
  size_t bytes(size_t index) const;

  // Axes of the input at `index`, 0 where it is absent.
  size_t rank(size_t index) const;

  template <typename T>
  T* output(size_t index, std::initializer_list<int64_t> shape) const {
    return static_cast<T*>(output_memory(index, {shape.begin(), shape.size()}));
  }
  template <typename T>
  T* output(size_t index, std::span<const int64_t> shape) const {
    return static_cast<T*>(output_memory(index, shape));
  }
  bool has_output(size_t index) const;

  // The provider's stream on a GPU.
  void* stream() const;

  // Runs work(unit) for every unit below `units` on the session's threads.
  template <typename Work>
  void parallel_for(int64_t units, const Work& work) const {
    struct Shared {
      const Work& work;
      SharedRange range;
      std::atomic<bool> failed = false;
    } shared{work, SharedRange(units)};
    auto run = [](void* data, size_t) noexcept {
      auto& all = *static_cast<Shared*>(data);
      try {
        all.work(all.range.next());
      } catch (...) {
        all.failed = true;
      }
    };
    if (units == 1) {
      run(&shared, 0);
    } else if (units > 1) {
      dispatch(units, run, &shared);
    }
    if (shared.failed) fail("memory", "for intermediate results is not available");
  }

  [[noreturn]] void fail(const std::string& field, const std::string& problem) const;

 private:
  AnyTensor tensor(size_t index) const;
  const void* input_memory(size_t index, std::initializer_list<int64_t> expected,
                           Shape& shape) const;
  void* output_memory(size_t index, std::span<const int64_t> shape) const;
  void dispatch(int64_t units, void (*run)(void*, size_t), void* data) const;

  const char* op_;
  std::span<const Port> inputs_;
  std::span<const AnyTensor> constants_;
  ort::KernelContext* context_;
};

}  // namespace rocmforge
