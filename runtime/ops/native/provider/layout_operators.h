// ONNX's own operators that only move values, on the GPU: copies of rows by HIP, without a kernel.
//
// Tensors are float32; shapes, sizes and pads lie on the host.
#pragma once

#include <cstdint>

#include "../context.h"

namespace rocmforge::hip {

// The same values in a shape, int64 [rank], of which one size may be -1 and 0 stands for x's own.
class Reshape {
 public:
  explicit Reshape(const Attributes&) {}
  void compute(const Context& context) const;
};

// x in a shape, int64 [rank], in which one axis is longer: its only place there is repeated.
class Expand {
 public:
  explicit Expand(const Attributes&) {}
  void compute(const Context& context) const;
};

// Parts of x along an axis; of sizes, int64 [parts], or equal ones.
class Split {
 public:
  explicit Split(const Attributes& attributes)
      : axis_(attributes.integer_or("axis", 0, -any_axis)),
        parts_(attributes.integer_or("num_outputs", 0, 0)) {}
  void compute(const Context& context) const;

 private:
  static constexpr int64_t any_axis = 6;
  int64_t axis_;
  int64_t parts_;
};

// The inputs behind each other along an axis.
class Concat {
 public:
  explicit Concat(const Attributes& attributes) : axis_(attributes.integer("axis")) {}
  void compute(const Context& context) const;

 private:
  int64_t axis_;
};

// Zeros before and behind x along one axis: pads, int64 [2 * rank].
class Pad {
 public:
  explicit Pad(const Attributes& attributes);
  void compute(const Context& context) const;
};

// Between the memories of the host and of the GPU: what ONNX Runtime puts between nodes of other
// providers and ours.
class CopyFromHost {
 public:
  explicit CopyFromHost(const Attributes&) {}
  void compute(const Context& context) const;
};

class CopyToHost {
 public:
  explicit CopyToHost(const Attributes&) {}
  void compute(const Context& context) const;
};

}  // namespace rocmforge::hip
