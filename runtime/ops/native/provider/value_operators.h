// ONNX's own operators of single values and of rows that the graphs have, on the GPU.
//
// Each is a kernel class as of our own operators (see operator.h), of float32 where nothing else is
// said. What the graph says in an input instead of an attribute lies on the host.
#pragma once

#include "../context.h"
#include "../hip/kernel.h"

namespace rocmforge::hip {

// y [R, N] = data [T, N] at the rows of indices, int32 [R].
class Gather {
 public:
  explicit Gather(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  Kernel<float*, const float*, const int32_t*, int32_t, int32_t> kernel_{"gather_rows"};
};

// y [.., 1] = the largest of each row of x; axes, int64 [1], are the last.
class ReduceMax {
 public:
  explicit ReduceMax(const Attributes& attributes)
      : keeps_axis_(attributes.integer_or("keepdims", 1, 0) != 0) {}
  void compute(const Context& context) const;

 private:
  bool keeps_axis_;
  Kernel<float*, const float*, int32_t> kernel_{"row_maximum"};
};

// Their numbers in runtime/ops/gpu/kernels/standard.py.
enum class OfOne : int32_t { copy, sigmoid, relu, tanh, floor, log, exp, abs, neg, clip };
enum class OfTwo : int32_t { add, sub, mul, div, min };

// A kernel of single values, `size` of them: y = f(x) with f by its number, within bounds.
template <typename Input>
using MapValues = Kernel<float*, Input, int32_t, int32_t, float, float>;

// y = f(x).
template <OfOne function>
class Values {
 public:
  explicit Values(const Attributes&) {}
  void compute(const Context& context) const;

 private:
  MapValues<const float*> kernel_{"map_values.fp32"};
};

// y = x within bounds, float32 [] each, which may be absent.
class Clip {
 public:
  explicit Clip(const Attributes&) {}
  void compute(const Context& context) const;

 private:
  MapValues<const float*> kernel_{"map_values.fp32"};
};

// y float32 = x int32.
class Cast {
 public:
  explicit Cast(const Attributes&) {}
  void compute(const Context& context) const;

 private:
  MapValues<const int32_t*> kernel_{"map_values.i32"};
};

// y = f(a, b), each repeated along adjacent axes of which it has one place.
template <OfTwo function>
class Pairs {
 public:
  explicit Pairs(const Attributes&) {}
  void compute(const Context& context) const;

 private:
  Kernel<float*, const float*, const float*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
         int32_t, int32_t>
      kernel_{"map_pairs"};
};

}  // namespace rocmforge::hip
