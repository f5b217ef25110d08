// What the library exports: the operators for ONNX Runtime, and the choice of instruction set.
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
#include "operators/gated_activation.h"
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

namespace rocmforge {
namespace {

constexpr const char* domain_name = "com.rocmforge";

const char* cpu(const ort::CustomOp*) { return "CPUExecutionProvider"; }
const char* rocm(const ort::CustomOp*) { return "ROCMExecutionProvider"; }

// Adds an operator for a provider. Sessions keep the pointer: the object lives as long as the
// library.
template <typename Kernel, const char* (*provider)(const ort::CustomOp*)>
void add(ort::Domain* domain, ort::Status*& status) {
  static const Operator<Kernel, provider == cpu> op(provider);
  if (status == nullptr) status = ort::add_operator(domain, &op);
}

// Sessions keep a pointer to the domain too, and may share it.
ort::Status* domain(ort::Domain** result) {
  static ort::Domain* made = nullptr;
  static ort::Status* const status = [] {
    ort::Status* failure = ort::create_domain(domain_name, &made);
    add<RowLookup, cpu>(made, failure);
    add<RMSNorm, cpu>(made, failure);
    add<LayerNorm, cpu>(made, failure);
    add<QuantMatMul, cpu>(made, failure);
    add<GroupedQuantMatMul, cpu>(made, failure);
    add<NormQuantMatMul, cpu>(made, failure);
    add<RotaryAngles, cpu>(made, failure);
    add<RotaryPageWrite, cpu>(made, failure);
    add<PagedAttention, cpu>(made, failure);
    add<GatedActivation, cpu>(made, failure);
    add<MixtureOfExperts, cpu>(made, failure);
    add<hip::RowLookup, rocm>(made, failure);
    add<hip::RMSNorm, rocm>(made, failure);
    add<hip::LayerNorm, rocm>(made, failure);
    add<hip::QuantMatMul, rocm>(made, failure);
    add<hip::GroupedQuantMatMul, rocm>(made, failure);
    add<hip::NormQuantMatMul, rocm>(made, failure);
    add<hip::RotaryAngles, rocm>(made, failure);
    add<hip::RotaryPageWrite, rocm>(made, failure);
    add<hip::PagedAttention, rocm>(made, failure);
    add<hip::GatedActivation, rocm>(made, failure);
    add<hip::MixtureOfExperts, rocm>(made, failure);
    return failure;
  }();
  *result = made;
  return status;
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
