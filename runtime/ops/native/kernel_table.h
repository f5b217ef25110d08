// The CPU kernels of one instruction set, as plain functions on plain memory.
//
// Operators check everything before they call these; kernels check nothing and never throw.
#pragma once

#include <cstdint>

#include "block_shapes.h"

namespace rocmforge {

// Float16 and bfloat16 values are handled by their bits.
using Half = uint16_t;

constexpr int64_t activation_block = 32;

constexpr int64_t activation_group = 8;
// The largest with which a block's sums of 8-bit weights still fit into an int32.
constexpr int largest_multiplier = 4095;

// Rows whose codes lie together, so that a tile of the matmul walks along one stream.
constexpr int interleaved_rows = 4;

// 32 columns of activations rounded to 8 bits: value = code * multiplier * scale, with a scale for
// the whole row and a multiplier, 1..4095, for each group of 8 columns. So small values beside a
// large one keep their bits, and sums inside a block stay exact integers.
//
// The codes stand here twice, as the two kinds of products want them: 4 adjacent ones, and pairs
// of adjacent ones from two groups in turn (see `column_at` in kernels/packed_weights.h).
template <int rows>
struct ActivationBlock {
  static constexpr int interleaved = rows;
  int8_t quads[8][rows][4];  // -127..127
  int8_t pairs[8][rows][4];
  int32_t multipliers[4][rows];       // of each group, as the instruction set wants them
  int32_t pair_multipliers[2][rows];  // of two groups: low and high half
  float scales[rows];                 // of the row: the same in all its blocks
  // Sums of code * multiplier over all 32 columns, the first 16 and the last 16.
  int32_t code_sums[3][rows];
  float sums[3][rows];  // the same, exactly
};

// One row's block on its way there.
struct RoundedBlock {
  int8_t codes[32];
  int8_t paired_codes[32];
  int32_t multipliers[4];
  int32_t sums[2];  // of code * multiplier over each half
};

struct QuantizedRows {
  void* memory;
  bool alone;  // one row in blocks of its own: a quarter of the cache lines that threads share
  int64_t first = 0;  // the row that counts as row 0

  QuantizedRows() : QuantizedRows(nullptr, 0) {}
  // In memory of `bytes`.
  QuantizedRows(void* memory, int64_t rows) : memory(memory), alone(rows == 1) {}
  static int64_t bytes(int64_t rows, int64_t columns) {
    const int64_t tiles = (rows + interleaved_rows - 1) / interleaved_rows;
    return tiles * (columns / activation_block) *
           int64_t{sizeof(ActivationBlock<interleaved_rows>)};
  }
  QuantizedRows from(int64_t row) const {
    QuantizedRows rows = *this;
    rows.first = row;
    return rows;
  }
  // The blocks of the tile with a row, [K / 32].
  template <int rows>
  ActivationBlock<rows>* tile(int64_t row, int64_t columns) const {
    return static_cast<ActivationBlock<rows>*>(memory) + row / rows * (columns / activation_block);
  }
};

// y = x @ weights.T + bias for the weight rows of some panels and some rows of x.
struct MatMul {
  const uint8_t* weights;
  bool packed;              // as `pack` lays them out, else rows as in the file
  int64_t row_bytes;        // of rows as in the file
  int64_t outputs;          // N
  int64_t columns;          // K
  const float* x;           // what float formats read
  QuantizedRows quantized;  // what integer formats read
  const float* bias;        // or null
  float* y;
};

struct Span {
  int64_t begin;
  int64_t end;
};

// One step's view of the page pool: float16 [layers, pages, 2, kv_heads, page_size, head_dim].
struct PagedLayer {
  Half* pages;  // of this layer
  int64_t page_size;
  int64_t kv_heads;
  int64_t head_dim;

  // The keys (side 0) or values (side 1) of one head at one position of a page.
  Half* at(int64_t page, int64_t side, int64_t head, int64_t slot) const {
    return pages + (((page * 2 + side) * kv_heads + head) * page_size + slot) * head_dim;
  }
};

struct Rotation {
  const float* cosines;  // [half], times the magnitude
  const float* sines;
  int64_t half;   // R / 2
  bool adjacent;  // pairs (2i, 2i + 1), else (i, i + R / 2)
};

// Consecutive tokens of one row and the query heads of one key-value head.
struct Attention {
  PagedLayer layer;
  const int32_t* page_table;  // of the row
  const int32_t* positions;   // of the tokens
  int64_t tokens;
  int64_t kv_head;
  int64_t heads;       // H
  const float* q;      // [tokens, H * D]
  float* output;       // [tokens, H * D]
  const float* sinks;  // [H] or null
  float scale;
  int64_t window;
  float softcap;
  int64_t whole_end;  // tokens attend to all positions before it; 0: to those up to their own
};

// One token of one head by the gated delta rule.
struct DeltaStep {
  const float* query;  // [width], scaled
  const float* key;    // [width]
  const float* value;  // [width]
  const float* kept;   // [width of the key]: what rows of the state are multiplied with first
  float share;         // of the error that is corrected
  int64_t width;
  float* state;  // [width of the key, width of the value]
  float* y;      // [width]
};

// One token of one head of a selective state-space model.
struct ScanStep {
  const float* x;       // [width]
  const float* input;   // [states]
  const float* output;  // [states]
  const float* decay;   // [states], of each value by itself; null where `kept` says it for all
  float kept;           // what the state is multiplied with
  float step;
  float skip;
  int64_t width;
  int64_t states;
  float* state;  // [width, states]
  float* y;      // [width]
};

// Positions are attended to in partitions of this many, always counted from position 0; each starts
// a softmax of its own and they are merged in order. So a long row can be shared among threads
// without any change to the order of additions.
constexpr int64_t partition_positions = 256;

// Logits whose largest is kept, so that a search looks into few blocks.
constexpr int64_t logit_block = 64;

// Sums of that many lanes, whatever the instruction set.
constexpr int wide = 8;

// Of logits above minus infinity, lane by lane.
struct Moments {
  double sums[wide]{};     // of distances from a reference
  double squares[wide]{};  // of these
  int32_t counts[wide]{};
};

// How logits become weights: exp((logit - largest) / divisor), 1 for larger ones, 0 below the
// floor.
struct Weighing {
  float largest;
  float divisor;
  float floor;
  bool operator==(const Weighing&) const = default;
};

// Of the logits that reach a floor, lane by lane.
struct Weighed {
  double masses[wide]{};  // weights
  double gaps[wide]{};    // weights times (largest - logit) / divisor
  int32_t counts[wide]{};
};

struct KernelTable {
  const char* name;
  int panel_rows;  // weight rows of one panel

  void (*look_up)(BlockFormat, const uint8_t* row, int64_t columns, float* out);
  void (*look_up_packed)(BlockFormat, const uint8_t* packed, int64_t row, int64_t columns,
                         float* out);
  // Bytes of a packed block: a panel's columns of one block of the file; 0 where a format is not
  // packed.
  int64_t (*packed_block_bytes)(BlockFormat);
  // Rewrites weights [N, row_bytes] as panels [ceil(N / panel_rows), blocks of a row,
  // packed_block_bytes].
  void (*pack)(BlockFormat, const uint8_t* weights, int64_t rows, int64_t columns, uint8_t* packed);
  // sum is written unless it is null; residual is added unless it is null.
  void (*rms_norm)(const float* x, const float* residual, const float* weight, int64_t columns,
                   int64_t group, float epsilon, float* y, float* sum);
  void (*layer_norm)(const float* x, const float* residual, const float* weight, int64_t columns,
                     float epsilon, float* y, float* sum);
  void (*silu)(const float* gate, const float* up, int64_t count, float* y);
  void (*gelu)(const float* gate, const float* up, int64_t count, float* y);
  // Rounds `count` rows, which lie one behind the other, as rows `row` and on.
  void (*quantize)(const float* x, int64_t columns, int64_t row, int64_t count,
                   const QuantizedRows& out);
  // Bytes of scratch memory that one call of matmul needs.
  int64_t (*matmul_scratch)(BlockFormat, const MatMul&);
  void (*matmul)(BlockFormat, const MatMul&, Span rows, Span panels, void* scratch);
  void (*rotate)(const float* x, const Rotation&, int64_t heads, int64_t head_dim, float* out);
  void (*delta_step)(const DeltaStep&);
  void (*scan_step)(const ScanStep&);
  void (*to_half)(const float* x, int64_t count, Half* out);
  // Writes the largest of each block of logits, what is no number left out; returns whether none is
  // infinity or no number.
  bool (*block_maxima)(const float* logits, int64_t count, float* maxima);
  uint64_t (*reaching)(const float* block, float bound);
  // Logits of a block where their bit is 1, minus infinity elsewhere; `kept` may be the block.
  void (*keep_allowed)(const float* block, uint64_t allowed, float* kept);
  // Of a block of logits; weights are multiples of 2^-34, so that their sums are exact.
  void (*weigh_block)(const float* block, const Weighing&, float* weights);
  void (*add_mass)(const float* block, const Weighing&, double* masses);  // of each lane
  void (*add_weighed)(const float* block, const Weighing&, Weighed&);
  void (*add_moments)(const float* block, float reference, Moments&);

  // Floats of scratch memory that one call of attend needs.
  int64_t (*attention_scratch)(const Attention&);
  // Floats of one query's state over one partition.
  int64_t (*attention_state)(const Attention&);
  // Attends to everything and writes the output.
  void (*attend)(const Attention&, float* scratch);
  // Attends to one partition and writes the states [tokens, group, state].
  void (*attend_partition)(const Attention&, int64_t partition, float* states, float* scratch);
  // Merges the states of partitions [count, tokens, group, state] in order; writes the output.
  void (*merge_partitions)(const Attention&, int64_t count, float* states, float* scratch);
};

}  // namespace rocmforge
