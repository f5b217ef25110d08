#include "layout_operators.h"

#include <vector>

#include "../hip/hip_api.h"
#include "transfer.h"

namespace rocmforge::hip {
namespace {

using Sizes = std::vector<int64_t>;

int64_t product(std::span<const int64_t> sizes) {
  int64_t all = 1;
  for (int64_t size : sizes) all *= size;
  return all;
}

std::span<const int64_t> numbers(const AnyTensor& tensor) {
  return {static_cast<const int64_t*>(tensor.data), static_cast<size_t>(tensor.shape[0])};
}

// A tensor as rows along an axis: `rows` of `size` places, `inner` values each.
struct Rows {
  Rows(const Context& context, std::span<const int64_t> sizes, int64_t axis) {
    const auto rank = static_cast<int64_t>(sizes.size());
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) context.fail("axis", "is none of the tensor");
    at = static_cast<size_t>(axis);
    rows = product(sizes.first(at));
    size = sizes[at];
    inner = product(sizes.subspan(at + 1));
  }
  int64_t row_values() const { return size * inner; }

  size_t at = 0;
  int64_t rows = 0;
  int64_t size = 0;
  int64_t inner = 0;
};

// Copies `width` values of each row from one pitch to another, all counted in values.
void copy_rows(const Context& context, float* to, int64_t to_pitch, const float* from,
               int64_t from_pitch, int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return;
  const auto bytes = [](int64_t values) { return static_cast<size_t>(values) * sizeof(float); };
  check(api().memcpy_rows(to, bytes(to_pitch), from, bytes(from_pitch), bytes(width),
                          static_cast<size_t>(rows), CopyKind::device_to_device, context.stream()),
        "copying rows");
}

const float* values(const AnyTensor& tensor) { return static_cast<const float*>(tensor.data); }

}  // namespace

void Reshape::compute(const Context& context) const {
  const AnyTensor x = context.input(0);
  const auto wanted = numbers(context.input(1));
  const int64_t size = product(x.sizes());
  Sizes shape(wanted.begin(), wanted.end());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 0 && axis < x.rank) shape[axis] = x.shape[axis];
  }
  for (int64_t& free : shape) {
    // The product of the others is without the sign of this one.
    if (free == -1) free = size == 0 ? 0 : size / -product(shape);
  }
  auto* y = context.output<float>(0, shape);
  if (y != x.data) copy_rows(context, y, size, values(x), size, size, 1);
}

void Expand::compute(const Context& context) const {
  const AnyTensor x = context.input(0);
  const auto wanted = numbers(context.input(1));
  if (wanted.size() != x.rank) context.fail("shape", "has other axes, which the GPU does not add");
  Sizes shape(x.sizes().begin(), x.sizes().end());
  size_t longer = 0;
  int longer_axes = 0;
  for (size_t axis = 0; axis < x.rank; ++axis) {
    if (wanted[axis] == 1 || wanted[axis] == x.shape[axis]) continue;
    shape[axis] = wanted[axis];
    longer = axis;
    ++longer_axes;
  }
  if (longer_axes > 1) context.fail("shape", "is longer in several axes, which the GPU has not");
  auto* y = context.output<float>(0, shape);
  const Rows to(context, shape, static_cast<int64_t>(longer));
  const int64_t copies = longer_axes == 0 ? 1 : to.size;
  const int64_t width = to.row_values() / std::max<int64_t>(copies, 1);
  for (int64_t copy = 0; copy < copies; ++copy) {
    copy_rows(context, y + copy * width, to.row_values(), values(x), width, width, to.rows);
  }
}

void Split::compute(const Context& context) const {
  const AnyTensor x = context.input(0), given = context.input(1);
  const Rows rows(context, x.sizes(), axis_);
  Sizes sizes;
  if (given.data != nullptr) {
    sizes.assign(numbers(given).begin(), numbers(given).end());
  } else if (parts_ > 0) {
    const int64_t each = (rows.size + parts_ - 1) / parts_;
    for (int64_t first = 0; first < rows.size; first += each) {
      sizes.push_back(std::min(each, rows.size - first));
    }
  } else {
    context.fail("split", "is missing");
  }
  int64_t first = 0;
  for (size_t part = 0; part < sizes.size(); ++part) {
    Sizes shape(x.sizes().begin(), x.sizes().end());
    shape[rows.at] = sizes[part];
    auto* y = context.output<float>(part, shape);
    const int64_t width = sizes[part] * rows.inner;
    if (y != nullptr) {
      copy_rows(context, y, width, values(x) + first, rows.row_values(), width, rows.rows);
    }
    first += width;
  }
}

void Concat::compute(const Context& context) const {
  Sizes shape;
  std::vector<AnyTensor> inputs;
  for (AnyTensor each = context.input(0); each.data != nullptr;
       each = context.input(inputs.size())) {
    inputs.push_back(each);
  }
  shape.assign(inputs[0].sizes().begin(), inputs[0].sizes().end());
  const size_t axis = Rows(context, shape, axis_).at;
  shape[axis] = 0;
  for (const AnyTensor& each : inputs) shape[axis] += each.shape[axis];
  auto* y = context.output<float>(0, shape);
  const Rows joined(context, shape, axis_);
  int64_t first = 0;
  for (const AnyTensor& each : inputs) {
    const int64_t width = each.shape[axis] * joined.inner;
    copy_rows(context, y + first, joined.row_values(), values(each), width, width, joined.rows);
    first += width;
  }
}

Pad::Pad(const Attributes& attributes) {
  if (attributes.text_or("mode", "constant") != "constant") {
    attributes.fail("mode", "is none that the GPU has");
  }
}

void Pad::compute(const Context& context) const {
  const AnyTensor x = context.input(0);
  const auto pads = numbers(context.input(1));
  if (context.input(2).data != nullptr || context.input(3).data != nullptr) {
    context.fail("constant_value", "is given, the GPU pads with zeros alone");
  }
  Sizes shape(x.sizes().begin(), x.sizes().end());
  size_t padded = 0;
  int padded_axes = 0;
  for (size_t axis = 0; axis < x.rank; ++axis) {
    const int64_t added = pads[axis] + pads[axis + x.rank];
    if (added == 0) continue;
    shape[axis] += added;
    padded = axis;
    ++padded_axes;
  }
  if (padded_axes > 1) context.fail("pads", "are of several axes, which the GPU does not pad");
  auto* y = context.output<float>(0, shape);
  const Rows from(context, x.sizes(), static_cast<int64_t>(padded));
  const Rows to(context, shape, static_cast<int64_t>(padded));
  const auto bytes = static_cast<size_t>(product(shape)) * sizeof(float);
  check(api().memset_async(y, 0, bytes, context.stream()), "clearing a tensor");
  copy_rows(context, y + pads[padded] * to.inner, to.row_values(), values(x), from.row_values(),
            from.row_values(), from.rows);
}

void CopyFromHost::compute(const Context& context) const {
  const AnyTensor x = context.input(0);
  void* y = context.output<void>(0, x.sizes());
  staging().upload(y, x.data, context.bytes(0));
}

void CopyToHost::compute(const Context& context) const {
  const AnyTensor x = context.input(0);
  void* y = context.output<void>(0, x.sizes());
  download(y, x.data, context.bytes(0));
}

}  // namespace rocmforge::hip
