#include "registry.h"

#include <memory>
#include <vector>

#include "../operator.h"
#include "layout_operators.h"
#include "value_operators.h"

namespace rocmforge::hip {
namespace {

using Types = std::vector<ort::ElementType>;

// Operators have not changed for these tensors since the oldest opset that is written.
constexpr int first_version = 13, last_version = 24;

// One operator: its name, the types of its parameters and the inputs that lie on the host.
struct Declaration {
  const char* name;
  std::vector<std::pair<const char*, Types>> types = {{"T", {ort::ElementType::float32}}};
  std::vector<size_t> host_inputs = {};
  bool writes_to_host = false;
  int since = first_version;
};

// One node's kernel, owned by ONNX Runtime.
template <typename Kernel>
class NodeKernel : public ort::KernelCallbacks {
 public:
  NodeKernel(const char* name, const Attributes& attributes) : name_(name), kernel_(attributes) {
    release = [](ort::KernelCallbacks* self) { delete static_cast<NodeKernel*>(self); };
    compute = [](ort::KernelCallbacks* self, ort::KernelContext* context) {
      const auto* it = static_cast<const NodeKernel*>(self);
      return guard(it->name_,
                   [&] { it->kernel_.compute(Context(it->name_, inputs, {}, context)); });
    };
  }

 private:
  static constexpr Port inputs[] = {{"input", ort::ElementType::float32}};

  const char* name_;
  Kernel kernel_;
};

// Declarations live as long as the library: ONNX Runtime hands them back to `create`.
template <typename Kernel>
void add(ort::KernelRegistry* registry, const char* provider, const Declaration& declaration) {
  ort::KernelBuilder* builder = nullptr;
  require(ort::create_builder(&builder));
  const std::unique_ptr<ort::KernelBuilder, void (*)(ort::KernelBuilder*)> owned(
      builder, [](ort::KernelBuilder* it) { ort::release_builder(it); });
  require(ort::set_operator(builder, declaration.name));
  require(ort::set_domain(builder, ""));
  require(ort::set_versions(builder, declaration.since, last_version));
  require(ort::set_provider(builder, provider));
  for (size_t input : declaration.host_inputs) {
    require(ort::set_input_memory(builder, input, ort::MemoryType::host));
  }
  if (declaration.writes_to_host) {
    require(ort::set_output_memory(builder, 0, ort::MemoryType::host_output));
  }
  for (const auto& [parameter, elements] : declaration.types) {
    std::vector<const ort::DataType*> types(elements.size());
    for (size_t i = 0; i < types.size(); ++i) require(ort::tensor_type(elements[i], &types[i]));
    require(ort::set_types(builder, parameter, types.data(), types.size()));
  }
  ort::KernelDefinition* definition = nullptr;
  require(ort::build_definition(builder, &definition));
  const ort::CreateKernel create = [](void* name, const ort::KernelInfo* info,
                                      ort::KernelCallbacks** kernel) {
    const auto* text = static_cast<const char*>(name);
    return guard(text, [&] { *kernel = new NodeKernel<Kernel>(text, Attributes(text, info)); });
  };
  ort::Status* const status =
      ort::add_kernel(registry, definition, create, const_cast<char*>(declaration.name));
  ort::release_definition(definition);
  require(status);
}

void add_all(ort::KernelRegistry* registry, const char* provider) {
  using enum ort::ElementType;
  const Types all = {float32, float16, int32, int64, uint8};
  const auto of_one = [&]<OfOne function>(const char* name) {
    add<Values<function>>(registry, provider, {name});
  };
  const auto of_two = [&]<OfTwo function>(const char* name) {
    add<Pairs<function>>(registry, provider, {name});
  };
  of_one.operator()<OfOne::sigmoid>("Sigmoid");
  of_one.operator()<OfOne::relu>("Relu");
  of_one.operator()<OfOne::tanh>("Tanh");
  of_one.operator()<OfOne::floor>("Floor");
  of_one.operator()<OfOne::log>("Log");
  of_one.operator()<OfOne::exp>("Exp");
  of_one.operator()<OfOne::abs>("Abs");
  of_one.operator()<OfOne::neg>("Neg");
  of_two.operator()<OfTwo::add>("Add");
  of_two.operator()<OfTwo::sub>("Sub");
  of_two.operator()<OfTwo::mul>("Mul");
  of_two.operator()<OfTwo::div>("Div");
  of_two.operator()<OfTwo::min>("Min");
  const auto add_one = [&]<typename Kernel>(const Declaration& declaration) {
    add<Kernel>(registry, provider, declaration);
  };
  add_one.operator()<Gather>({"Gather", {{"T", {float32}}, {"Tind", {int32}}}});
  add_one.operator()<ReduceMax>({"ReduceMax", {{"T", {float32}}}, {1}});
  add_one.operator()<Cast>({"Cast", {{"T1", {int32}}, {"T2", {float32}}}});
  add_one.operator()<Clip>({"Clip", {{"T", {float32}}}, {1, 2}});
  add_one.operator()<Expand>({"Expand", {{"T", {float32}}}, {1}});
  add_one.operator()<Reshape>({"Reshape", {{"T", {float32}}}, {1}});
  add_one.operator()<Split>({"Split", {{"T", {float32}}}, {1}});
  add_one.operator()<Concat>({"Concat"});
  add_one.operator()<Pad>({"Pad", {{"T", {float32}}}, {1, 2, 3}});
  add_one.operator()<CopyFromHost>({"MemcpyFromHost", {{"T", all}}, {0}, false, 1});
  add_one.operator()<CopyToHost>({"MemcpyToHost", {{"T", all}}, {}, true, 1});
}

}  // namespace

ort::KernelRegistry* make_registry(const char* provider) {
  ort::KernelRegistry* registry = nullptr;
  require(ort::create_registry(&registry));
  try {
    add_all(registry, provider);
  } catch (...) {
    ort::release_registry(registry);
    throw;
  }
  return registry;
}

}  // namespace rocmforge::hip
