#include "value_operators.h"

#include <limits>
#include <vector>

namespace rocmforge::hip {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

int32_t narrow(const Context& context, int64_t value) {
  if (value > std::numeric_limits<int32_t>::max()) context.fail("tensor", "has too many values");
  return static_cast<int32_t>(value);
}

int64_t product(std::span<const int64_t> sizes) {
  int64_t all = 1;
  for (int64_t size : sizes) all *= size;
  return all;
}

// Counted from the last axis; 1 where a tensor has none.
int64_t size_of(std::span<const int64_t> sizes, size_t axis) {
  return axis < sizes.size() ? sizes[sizes.size() - 1 - axis] : 1;
}

std::vector<int64_t> joint_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
  std::vector<int64_t> joint(std::max(a.size(), b.size()));
  for (size_t axis = 0; axis < joint.size(); ++axis) {
    const int64_t size = size_of(a, axis);
    joint[joint.size() - 1 - axis] = size == 1 ? size_of(b, axis) : size;
  }
  return joint;
}

// An operand as [outer, inner], each row of it `repeat` times: value i of a result is of the value
// i / (inner * repeat) % outer * inner + i % inner.
struct Repetition {
  int32_t inner;
  int32_t repeat;
  int32_t outer;
};

Repetition repetition(const Context& context, const AnyTensor& operand,
                      std::span<const int64_t> result) {
  int64_t sizes[] = {1, 1, 1, 1};  // inner, repeat, outer, and repeat of all
  size_t at = 0;
  for (size_t axis = 0; axis < result.size(); ++axis) {
    const int64_t size = size_of(result, axis);
    if (size == 1) continue;
    const bool is_repeated = size_of(operand.sizes(), axis) != size;
    if (is_repeated != (at % 2 == 1)) ++at;
    if (at >= std::size(sizes)) {
      context.fail("operand", "is repeated along axes that are apart, which no GPU kernel does");
    }
    sizes[at] *= size;
  }
  return {narrow(context, sizes[0]), narrow(context, sizes[1]), narrow(context, sizes[2])};
}

template <typename Input>
void map(const Context& context, const MapValues<Input>& kernel, OfOne function,
         float low = -infinity, float high = infinity) {
  const AnyTensor x = context.input(0);
  const int64_t size = product(x.sizes());
  auto* y = context.output<float>(0, x.sizes());
  kernel(context.stream(), {ceiling_divide(size, kernel.constant("BLOCK"))}, y,
         static_cast<Input>(x.data), narrow(context, size), static_cast<int32_t>(function), low,
         high);
}

float bound(const Context& context, size_t index, float otherwise) {
  const AnyTensor given = context.input(index);
  return given.data == nullptr ? otherwise : *static_cast<const float*>(given.data);
}

}  // namespace

Gather::Gather(const Attributes& attributes) {
  if (attributes.integer_or("axis", 0, 0) != 0) attributes.fail("axis", "is not that of the rows");
}

void Gather::compute(const Context& context) const {
  const AnyTensor data = context.input(0), indices = context.input(1);
  const auto row = data.sizes().subspan(1);
  std::vector<int64_t> shape(indices.sizes().begin(), indices.sizes().end());
  shape.insert(shape.end(), row.begin(), row.end());
  const int64_t size = product(row);
  auto* y = context.output<float>(0, shape);
  kernel_(context.stream(),
          {product(indices.sizes()), ceiling_divide(size, kernel_.constant("BLOCK"))}, y,
          static_cast<const float*>(data.data), static_cast<const int32_t*>(indices.data),
          narrow(context, data.shape[0]), narrow(context, size));
}

void ReduceMax::compute(const Context& context) const {
  const AnyTensor x = context.input(0), axes = context.input(1);
  const auto last = static_cast<int64_t>(x.rank) - 1;
  const auto* axis = static_cast<const int64_t*>(axes.data);
  if (axis == nullptr || axes.shape[0] != 1 || (*axis != -1 && *axis != last)) {
    context.fail("axes", "are not the last axis, which alone a GPU kernel reduces");
  }
  std::vector<int64_t> shape(x.sizes().begin(), x.sizes().end() - 1);
  const int64_t rows = product(shape);
  if (keeps_axis_) shape.push_back(1);
  auto* y = context.output<float>(0, shape);
  kernel_(context.stream(), {rows}, y, static_cast<const float*>(x.data),
          narrow(context, x.shape[x.rank - 1]));
}

template <OfOne function>
void Values<function>::compute(const Context& context) const {
  map(context, kernel_, function);
}

void Clip::compute(const Context& context) const {
  map(context, kernel_, OfOne::clip, bound(context, 1, -infinity), bound(context, 2, infinity));
}

void Cast::compute(const Context& context) const { map(context, kernel_, OfOne::copy); }

template <OfTwo function>
void Pairs<function>::compute(const Context& context) const {
  const AnyTensor a = context.input(0), b = context.input(1);
  const std::vector<int64_t> shape = joint_shape(a.sizes(), b.sizes());
  const auto of_a = repetition(context, a, shape), of_b = repetition(context, b, shape);
  const int64_t size = product(shape);
  auto* y = context.output<float>(0, shape);
  kernel_(context.stream(), {ceiling_divide(size, kernel_.constant("BLOCK"))}, y,
          static_cast<const float*>(a.data), static_cast<const float*>(b.data),
          narrow(context, size), static_cast<int32_t>(function), of_a.inner, of_a.repeat,
          of_a.outer, of_b.inner, of_b.repeat, of_b.outer);
}

template class Values<OfOne::sigmoid>;
template class Values<OfOne::relu>;
template class Values<OfOne::tanh>;
template class Values<OfOne::floor>;
template class Values<OfOne::log>;
template class Values<OfOne::exp>;
template class Values<OfOne::abs>;
template class Values<OfOne::neg>;
template class Pairs<OfTwo::add>;
template class Pairs<OfTwo::sub>;
template class Pairs<OfTwo::mul>;
template class Pairs<OfTwo::div>;
template class Pairs<OfTwo::min>;

}  // namespace rocmforge::hip
