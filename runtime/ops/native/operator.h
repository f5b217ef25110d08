// Makes an OrtCustomOp of a kernel class.
//
// A kernel class declares `name`, `inputs`, `outputs`, `alias` (input and output that share memory,
// or nothing) and `reads_on_host(input)` (or nothing: every input lies where the provider
// computes), is made from Attributes, and computes on a Context. Failures become statuses here: no
// exception crosses into ONNX Runtime.
#pragma once

#include <exception>
#include <optional>

#include "context.h"

namespace rocmforge {

// Of all our operators.
constexpr const char* domain_name = "com.rocmforge";

constexpr int status_invalid_argument = 2;
constexpr int status_runtime_exception = 6;

struct Alias {
  int input;
  int output;
};

template <typename Work>
ort::Status* guard(const char* op, const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const ForeignFailure& failure) {
    return failure.status;
  } catch (const Failure& failure) {
    return ort::create_status(status_invalid_argument, failure.what());
  } catch (const std::exception&) {
    return ort::create_status(status_runtime_exception, op);
  } catch (...) {
    return ort::create_status(status_runtime_exception, op);
  }
}

// A kernel and the inputs that never change. Where ONNX Runtime computes on a GPU none are noted:
// kernels there read them when they are constructed.
template <typename Kernel>
struct Node {
  Kernel kernel;
  std::array<AnyTensor, std::size(Kernel::inputs)> constants;

  Node(const Attributes& attributes, bool notes_constants) : kernel(attributes), constants{} {
    for (size_t i = 0; notes_constants && i < constants.size(); ++i) {
      constants[i] = attributes.constant(i);
    }
  }
};

template <typename Kernel, bool on_host>
struct Operator : ort::CustomOp {
  explicit constexpr Operator(const char* (*provider_name)(const ort::CustomOp*)) {
    provider = provider_name;
    name = [](const ort::CustomOp*) { return Kernel::name; };
    input_type = [](const ort::CustomOp*, size_t i) { return Kernel::inputs[i].type; };
    input_count = [](const ort::CustomOp*) { return std::size(Kernel::inputs); };
    output_type = [](const ort::CustomOp*, size_t i) { return Kernel::outputs[i].type; };
    output_count = [](const ort::CustomOp*) { return std::size(Kernel::outputs); };
    input_presence = [](const ort::CustomOp*, size_t i) { return Kernel::inputs[i].presence; };
    output_presence = [](const ort::CustomOp*, size_t i) { return Kernel::outputs[i].presence; };
    input_memory = [](const ort::CustomOp*, [[maybe_unused]] size_t i) {
      if constexpr (requires { Kernel::reads_on_host(i); }) {
        if (Kernel::reads_on_host(i)) return ort::MemoryType::host;
      }
      return ort::MemoryType::provider;
    };
    variadic_input_minimum = [](const ort::CustomOp*) { return 1; };
    variadic_input_same_type = [](const ort::CustomOp*) { return 1; };
    variadic_output_minimum = [](const ort::CustomOp*) { return 1; };
    variadic_output_same_type = [](const ort::CustomOp*) { return 1; };
    first_version = [](const ort::CustomOp*) { return 1; };
    last_version = [](const ort::CustomOp*) { return 0x7fffffff; };
    create = [](const ort::CustomOp*, void* const*, const ort::KernelInfo* info, void** kernel) {
      return guard(Kernel::name,
                   [&] { *kernel = new Node<Kernel>(Attributes(Kernel::name, info), on_host); });
    };
    destroy = [](void* kernel) { delete static_cast<Node<Kernel>*>(kernel); };
    compute = [](void* kernel, ort::KernelContext* context) {
      return guard(Kernel::name, [&] {
        const auto& node = *static_cast<const Node<Kernel>*>(kernel);
        node.kernel.compute(Context(Kernel::name, Kernel::inputs, node.constants, context));
      });
    };
    if constexpr (requires { Kernel::alias; }) {
      aliases = [](int** inputs, int** outputs) -> size_t {
        *inputs = new int(Kernel::alias.input);
        *outputs = new int(Kernel::alias.output);
        return 1;
      };
      release_aliases = [](int* inputs, int* outputs) {
        delete inputs;
        delete outputs;
      };
    }
  }
};

}  // namespace rocmforge
