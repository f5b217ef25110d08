#include "context.h"

#include <algorithm>

namespace rocmforge {
namespace {

bool present(ort::Status* status) {
  if (status == nullptr) return true;
  ort::release_status(status);
  return false;
}

template <typename Sizes>
std::string describe(const Sizes& sizes) {
  std::string text = "[";
  for (int64_t size : sizes) {
    if (text.size() > 1) text += ", ";
    text += size == any_size ? "*" : std::to_string(size);
  }
  return text + "]";
}

AnyTensor describe_tensor(const ort::Value* value) {
  AnyTensor tensor;
  ort::ShapeInfo* info = nullptr;
  require(ort::tensor_shape(value, &info));
  ort::Status* status = ort::shape_rank(info, &tensor.rank);
  if (status == nullptr && tensor.rank <= maximum_rank) {
    status = ort::shape_dimensions(info, tensor.shape.data(), tensor.rank);
  }
  ort::release_shape(info);
  require(status);
  void* data = nullptr;
  require(ort::tensor_data(const_cast<ort::Value*>(value), &data));
  alignas(64) static const char empty = 0;
  tensor.data = data == nullptr ? &empty : data;  // an empty tensor is there all the same
  return tensor;
}

// Fails unless the tensor has that shape.
void expect(const char* op, const Port& port, const AnyTensor& tensor,
            std::initializer_list<int64_t> expected) {
  const std::span<const int64_t> actual = tensor.sizes();
  const auto matches = [](int64_t want, int64_t have) { return want == any_size || want == have; };
  if (tensor.rank != expected.size() ||
      !std::equal(expected.begin(), expected.end(), actual.begin(), matches)) {
    throw Failure(op, port.name,
                  "has shape " + describe(actual) + ", expected " + describe(expected));
  }
}

}  // namespace

void Attributes::fail(const std::string& field, const std::string& problem) const {
  throw Failure(op_, field, problem);
}

int64_t Attributes::integer(const char* name) const {
  int64_t value = 0;
  if (!present(ort::attribute_int(info_, name, &value))) fail(name, "is missing");
  return value;
}

int64_t Attributes::integer(const char* name, int64_t minimum) const {
  const int64_t value = integer(name);
  if (value < minimum) {
    fail(name, "is " + std::to_string(value) + ", the least is " + std::to_string(minimum));
  }
  if (value > most_size) {
    fail(name, "is " + std::to_string(value) + ", the most is " + std::to_string(most_size));
  }
  return value;
}

int64_t Attributes::integer_or(const char* name, int64_t otherwise, int64_t minimum) const {
  int64_t value = 0;
  if (!present(ort::attribute_int(info_, name, &value))) return otherwise;
  return integer(name, minimum);
}

float Attributes::real(const char* name) const {
  float value = 0;
  if (!present(ort::attribute_float(info_, name, &value))) fail(name, "is missing");
  return value;
}

float Attributes::real_or(const char* name, float otherwise) const {
  float value = 0;
  return present(ort::attribute_float(info_, name, &value)) ? value : otherwise;
}

std::string Attributes::text_or(const char* name, const std::string& otherwise) const {
  size_t size = 0;
  return present(ort::attribute_string(info_, name, nullptr, &size)) ? text(name) : otherwise;
}

std::string Attributes::text(const char* name) const {
  size_t size = 0;
  if (!present(ort::attribute_string(info_, name, nullptr, &size))) fail(name, "is missing");
  std::string value(size, '\0');
  require(ort::attribute_string(info_, name, value.data(), &size));
  value.resize(size == 0 ? 0 : size - 1);  // size counts the closing NUL
  return value;
}

AnyTensor Attributes::constant(size_t index) const {
  int is_constant = 0;
  const ort::Value* value = nullptr;
  if (!present(ort::constant_input(info_, index, &is_constant, &value))) return {};
  return is_constant == 0 || value == nullptr ? AnyTensor{} : describe_tensor(value);
}

const void* Attributes::constant_memory(size_t index, const Port& port,
                                        std::initializer_list<int64_t> expected,
                                        Shape& shape) const {
  const AnyTensor tensor = constant(index);
  if (tensor.data == nullptr) {
    if (port.presence == ort::Presence::required) fail(port.name, "is not constant");
    return nullptr;
  }
  expect(op_, port, tensor, expected);
  shape = tensor.shape;
  return tensor.data;
}

ort::Allocator* Attributes::allocator() const {
  ort::Allocator* allocator = nullptr;
  require(ort::kernel_allocator(info_, ort::MemoryType::provider, &allocator));
  return allocator;
}

void Context::fail(const std::string& field, const std::string& problem) const {
  throw Failure(op_, field, problem);
}

AnyTensor Context::tensor(size_t index) const {
  if (index < constants_.size() && constants_[index].data != nullptr) return constants_[index];
  size_t count = 0;
  require(ort::input_count(context_, &count));
  const ort::Value* value = nullptr;
  if (index < count) require(ort::input_value(context_, index, &value));
  return value == nullptr ? AnyTensor{} : describe_tensor(value);
}

size_t Context::bytes(size_t index) const {
  const ort::Value* value = nullptr;
  size_t bytes = 0;
  require(ort::input_value(context_, index, &value));
  require(ort::tensor_bytes(value, &bytes));
  return bytes;
}

size_t Context::rank(size_t index) const { return tensor(index).rank; }

const void* Context::input_memory(size_t index, std::initializer_list<int64_t> expected,
                                  Shape& shape) const {
  const Port& port = inputs_[index];
  const AnyTensor tensor = this->tensor(index);
  if (tensor.data == nullptr) {
    if (port.presence == ort::Presence::required) fail(port.name, "is missing");
    return nullptr;
  }
  expect(op_, port, tensor, expected);
  shape = tensor.shape;
  return tensor.data;
}

void* Context::output_memory(size_t index, std::span<const int64_t> shape) const {
  ort::Value* value = nullptr;
  require(ort::output_value(context_, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  require(ort::tensor_data(value, &data));
  // An allocator of a provider that is not ONNX Runtime's own says so by a null alone.
  if (data == nullptr && std::find(shape.begin(), shape.end(), 0) == shape.end()) {
    fail("memory", "for a result of shape " + describe(shape) + " is not available");
  }
  return data;
}

bool Context::has_output(size_t index) const {
  size_t count = 0;
  require(ort::output_count(context_, &count));
  return index < count;
}

void* Context::stream() const {
  void* stream = nullptr;
  require(ort::compute_stream(context_, &stream));
  return stream;
}

void Context::dispatch(int64_t units, void (*run)(void*, size_t), void* data) const {
  // Zero batches: units are handed out one by one, so that a late thread takes fewer.
  require(ort::parallel_for(context_, run, static_cast<size_t>(units), 0, data));
}

}  // namespace rocmforge
