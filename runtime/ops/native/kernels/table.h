// The kernels of one layer, gathered for the operators. Included once per instruction set, after
// its simd header, with ROCMFORGE_LAYER naming its namespace.
#pragma once

#include "block_formats.h"
#include "codebook_formats.h"
#include "elementwise.h"
#include "logits.h"
#include "recurrence.h"
#include "with_format.h"
// Those use elementwise.
#include "activations.h"
#include "attention.h"
#include "packed_weights.h"
// Those use packed weights.
#include "integer_matmul.h"
#include "look_up.h"
#include "plain_matmul.h"

namespace rocmforge::ROCMFORGE_LAYER {

inline int64_t matmul_scratch(BlockFormat format, const MatMul& args) {
  return with_format(
      format,
      [&]<typename Format>() {
        return panels_together<Format>(args) * UnpackedPanel<Format>::bytes(args);
      },
      []<typename Format>() { return int64_t{0}; });
}

inline void matmul(BlockFormat format, const MatMul& args, Span rows, Span panels, void* scratch) {
  with_format(
      format, [&]<typename Format>() { integer_matmul<Format>(args, rows, panels, scratch); },
      [&]<typename Format>() { plain_matmul<Format>(args, rows, panels); });
}

constexpr KernelTable kernel_table = {
    .name = instruction_set_name,
    .panel_rows = lanes,
    .look_up = look_up,
    .look_up_packed = look_up_packed,
    .packed_block_bytes = packed_block_bytes,
    .pack = pack,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .silu = silu,
    .gelu = gelu,
    .quantize = quantize,
    .matmul_scratch = matmul_scratch,
    .matmul = matmul,
    .rotate = rotate,
    .delta_step = delta_step,
    .scan_step = scan_step,
    .to_half = to_half,
    .block_maxima = block_maxima,
    .reaching = reaching,
    .keep_allowed = keep_allowed,
    .weigh_block = weigh_block,
    .add_mass = add_mass,
    .add_weighed = add_weighed,
    .add_moments = add_moments,
    .attention_scratch = attention_scratch,
    .attention_state = attention_state,
    .attend = attend,
    .attend_partition = attend_partition,
    .merge_partitions = merge_partitions,
};

}  // namespace rocmforge::ROCMFORGE_LAYER
