// What the library exports: the operators for ONNX Runtime, and the choice of instruction set.
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "export.h"
#include "hip/operators/gated_activation.h"
#include "hip/operators/grouped_quant_matmul.h"
#include "hip/operators/layer_norm.h"
#include "hip/operators/mixture_of_experts.h"
#include "hip/operators/norm_quant_matmul.h"
#include "hip/operators/paged_attention.h"
#include "hip/operators/quant_matmul.h"
#include "hip/operators/rms_norm.h"
#include "hip/operators/rotary_angles.h"
#include "hip/operators/rotary_page_write.h"
#include "hip/operators/row_lookup.h"
#include "instruction_set.h"
#include "operator.h"
#include "operators/causal_convolution.h"
#include "operators/gated_activation.h"
#include "operators/gated_delta_net.h"
#include "operators/grouped_quant_matmul.h"
#include "operators/layer_norm.h"
#include "operators/mixture_of_experts.h"
#include "operators/norm_quant_matmul.h"
#include "operators/paged_attention.h"
#include "operators/quant_matmul.h"
#include "operators/rms_norm.h"
#include "operators/rotary_angles.h"
#include "operators/rotary_page_write.h"
#include "operators/row_lookup.h"
#include "operators/selective_scan.h"
#include "provider/provider.h"

namespace rocmforge {
namespace {

const char* cpu(const ort::CustomOp*) { return "CPUExecutionProvider"; }
const char* rocm(const ort::CustomOp*) { return "ROCMExecutionProvider"; }
const char* own(const ort::CustomOp*) { return hip::provider_name; }

// An operator of a provider, with the names that its inputs and outputs have in failures.
struct Registered {
  const ort::CustomOp* op;
  std::span<const Port> inputs;
  std::span<const Port> outputs;
};

// Sessions keep the pointer to the operator: the object lives as long as the library.
template <typename Kernel, const char* (*provider)(const ort::CustomOp*)>
Registered of() {
  static const Operator<Kernel, provider == cpu> op(provider);
  return {&op, Kernel::inputs, Kernel::outputs};
}

// The operators of a provider that computes on a GPU.
template <const char* (*provider)(const ort::CustomOp*)>
void add_gpu_operators(std::vector<Registered>& all) {
  all.insert(all.end(), {
                            of<hip::RowLookup, provider>(),
                            of<hip::RMSNorm, provider>(),
                            of<hip::LayerNorm, provider>(),
                            of<hip::QuantMatMul, provider>(),
                            of<hip::GroupedQuantMatMul, provider>(),
                            of<hip::NormQuantMatMul, provider>(),
                            of<hip::RotaryAngles, provider>(),
                            of<hip::RotaryPageWrite, provider>(),
                            of<hip::PagedAttention, provider>(),
                            of<hip::GatedActivation, provider>(),
                            of<hip::MixtureOfExperts, provider>(),
                        });
}

// Every operator of every provider.
const std::vector<Registered>& operators() {
  static const std::vector<Registered> every = [] {
    std::vector<Registered> all = {
        of<RowLookup, cpu>(),          of<RMSNorm, cpu>(),
        of<LayerNorm, cpu>(),          of<QuantMatMul, cpu>(),
        of<GroupedQuantMatMul, cpu>(), of<NormQuantMatMul, cpu>(),
        of<RotaryAngles, cpu>(),       of<RotaryPageWrite, cpu>(),
        of<PagedAttention, cpu>(),     of<CausalConvolution, cpu>(),
        of<GatedDeltaNet, cpu>(),      of<SelectiveScan, cpu>(),
        of<GatedActivation, cpu>(),    of<MixtureOfExperts, cpu>(),
    };
    add_gpu_operators<rocm>(all);
    add_gpu_operators<own>(all);
    return all;
  }();
  return every;
}

// Sessions keep a pointer to the domain too, and may share it.
ort::Status* domain(ort::Domain** result) {
  static ort::Domain* made = nullptr;
  static ort::Status* const status = [] {
    ort::Status* failure = ort::create_domain(domain_name, &made);
    for (const Registered& each : operators()) {
      if (failure == nullptr) failure = ort::add_operator(made, each.op);
    }
    return failure;
  }();
  *result = made;
  return status;
}

const char* name_of(ort::ElementType type) {
  switch (type) {
    case ort::ElementType::float32:
      return "float32";
    case ort::ElementType::uint8:
      return "uint8";
    case ort::ElementType::int32:
      return "int32";
    case ort::ElementType::int64:
      return "int64";
    case ort::ElementType::float16:
      return "float16";
  }
  return "unknown";
}

// Lines of words, as ONNX Runtime is answered: the operator and its provider; of each input and
// output whether it may be left out, its type and its name, of an input also where it is read;
// "alias" with the indices of an input and an output that share memory.
std::string description(const Registered& registered) {
  const ort::CustomOp* op = registered.op;
  std::ostringstream text;
  const auto port = [&](const char* kind, ort::Presence presence, ort::ElementType type,
                        const Port& named) {
    text << '\n' << kind << (presence == ort::Presence::optional ? " optional " : " required ");
    text << name_of(type) << ' ' << named.name;
  };
  text << "operator " << op->name(op) << ' ' << op->provider(op);
  for (size_t i = 0; i < op->input_count(op); ++i) {
    port("input", op->input_presence(op, i), op->input_type(op, i), registered.inputs[i]);
    text << (op->input_memory(op, i) == ort::MemoryType::host ? " host" : " provider");
  }
  for (size_t i = 0; i < op->output_count(op); ++i) {
    port("output", op->output_presence(op, i), op->output_type(op, i), registered.outputs[i]);
  }
  if (op->aliases != nullptr) {
    int *inputs = nullptr, *outputs = nullptr;
    const size_t count = op->aliases(&inputs, &outputs);
    for (size_t i = 0; i < count; ++i) text << "\nalias " << inputs[i] << ' ' << outputs[i];
    op->release_aliases(inputs, outputs);
  }
  return text.str();
}

}  // namespace
}  // namespace rocmforge

ROCMFORGE_EXPORT rocmforge::ort::Status* RegisterCustomOps(rocmforge::ort::SessionOptions* options,
                                                           const rocmforge::ort::ApiBase* base) {
  namespace ort = rocmforge::ort;
  ort::api = base->get_api(ort::api_version);
  ort::Domain* domain = nullptr;
  ort::Status* status = rocmforge::domain(&domain);
  return status != nullptr ? status : ort::add_domain(options, domain);
}

// Describes the operator of that number as it is registered; null after the last. The text holds
// until the thread's next call.
ROCMFORGE_EXPORT const char* rocmforge_operator(int64_t number) {
  const auto& all = rocmforge::operators();
  if (number < 0 || number >= static_cast<int64_t>(all.size())) return nullptr;
  thread_local std::string text;
  text = rocmforge::description(all[static_cast<size_t>(number)]);
  return text.c_str();
}

// "avx512", "avx2" or "scalar".
ROCMFORGE_EXPORT const char* rocmforge_instruction_set() { return rocmforge::kernels().name; }

// Name of the block format of that number; null after the last.
ROCMFORGE_EXPORT const char* rocmforge_block_format(int64_t number) {
  if (number < 0 || number >= rocmforge::block_format_count) return nullptr;
  return rocmforge::block_shapes[number].name.data();
}

// Bytes of a packed block of `panel_rows` rows; 0 for a format that is unknown or is not packed.
ROCMFORGE_EXPORT int64_t rocmforge_packed_block_bytes(const char* format) {
  const auto* shape = rocmforge::find_block_shape(format);
  return shape == nullptr ? 0 : rocmforge::kernels().packed_block_bytes(shape->format);
}

ROCMFORGE_EXPORT int64_t rocmforge_panel_rows() { return rocmforge::kernels().panel_rows; }

// Rewrites rows of whole blocks of 32 columns in a format that is packed.
ROCMFORGE_EXPORT void rocmforge_pack(const char* format, const uint8_t* weights, int64_t rows,
                                     int64_t columns, uint8_t* packed) {
  const auto* shape = rocmforge::find_block_shape(format);
  rocmforge::kernels().pack(shape->format, weights, rows, columns, packed);
}

// 0 on success; for tests and measurements, while no session runs.
ROCMFORGE_EXPORT int rocmforge_set_instruction_set(const char* name) {
  return rocmforge::use_instruction_set(name) ? 0 : 1;
}
