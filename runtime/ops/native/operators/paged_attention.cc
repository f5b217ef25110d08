#include "paged_attention.h"

#include <algorithm>
#include <vector>

#include "../instruction_set.h"
#include "../scratch.h"

namespace rocmforge {
namespace {

// Tokens that share one pass over the keys.
constexpr int64_t tile_tokens = 16;
// With fewer pieces than this, long ones are cut by partitions to occupy every thread.
constexpr int64_t few_pieces = 32;

// Some tokens of one row and one key-value head; `states` where partitions are computed apart.
struct Piece {
  Attention attention;
  int64_t partitions;
  int64_t first_state;
};

struct Unit {
  int64_t piece;
  int64_t partition;
};

}  // namespace

PagedAttention::PagedAttention(const Attributes& attributes)
    : heads_(attributes),
      scale_(attributes.real("scale")),
      window_(attributes.integer_or("window", 0, 0)),
      softcap_(attributes.real_or("softcap", 0.0f)) {}

void PagedAttention::compute(const Context& context) const {
  const int64_t q_width = heads_.heads * heads_.head_dim;
  const auto q = context.input<float>(0, {any_size, q_width});
  const int64_t tokens = q.shape[0];
  const auto pool =
      context.input<Half>(1, {any_size, any_size, 2, heads_.kv_heads, any_size, heads_.head_dim});
  const PagedLayer layer = heads_.of_pool(context, const_cast<Half*>(pool.data), pool.shape);
  const PagedRows rows(context, {2, 3, 4}, tokens, pool.shape[1], layer.page_size, false);
  const auto sinks = context.input<float>(5, {heads_.heads});
  float* y = context.output<float>(0, {tokens, q_width});

  const KernelTable& table = kernels();
  std::vector<Piece> pieces;
  int64_t states = 0, scratch_size = 0;
  for (int64_t row = 0; row < rows.count(); ++row) {
    const Span span = rows.tokens(row);
    for (int64_t t = span.begin; t < span.end; t += tile_tokens) {
      const int64_t count = std::min(tile_tokens, span.end - t);
      const int32_t* positions = rows.positions() + t;
      const int64_t last = *std::max_element(positions, positions + count);
      for (int64_t kv_head = 0; kv_head < heads_.kv_heads; ++kv_head) {
        const Attention attention{layer,
                                  rows.pages(row),
                                  positions,
                                  count,
                                  kv_head,
                                  heads_.heads,
                                  q.data + t * q_width,
                                  y + t * q_width,
                                  sinks.data,
                                  scale_,
                                  window_,
                                  softcap_};
        const int64_t partitions = last / partition_positions + 1;
        pieces.push_back({attention, partitions, states});
        states += partitions * count * (heads_.heads / heads_.kv_heads) *
                  table.attention_state(attention);
        scratch_size = std::max(scratch_size, table.attention_scratch(attention));
      }
    }
  }

  const auto unit_scratch = [=] { return scratch<float>(ScratchUse::unit, scratch_size); };
  const auto piece_count = static_cast<int64_t>(pieces.size());
  if (piece_count >= few_pieces) {
    context.parallel_for(piece_count, [&](int64_t i) {
      // The last tiles of a row are the longest: they go first.
      table.attend(pieces[static_cast<size_t>(piece_count - 1 - i)].attention, unit_scratch());
    });
    return;
  }
  std::vector<Unit> units;
  for (int64_t i = 0; i < piece_count; ++i) {
    for (int64_t p = 0; p < pieces[static_cast<size_t>(i)].partitions; ++p) units.push_back({i, p});
  }
  float* memory = scratch<float>(ScratchUse::call, states);
  const auto piece_states = [&](const Piece& piece, int64_t partition) {
    const Attention& args = piece.attention;
    return memory + piece.first_state +
           partition * args.tokens * (args.heads / layer.kv_heads) * table.attention_state(args);
  };
  context.parallel_for(static_cast<int64_t>(units.size()), [&](int64_t i) {
    const Unit unit = units[static_cast<size_t>(i)];
    const Piece& piece = pieces[static_cast<size_t>(unit.piece)];
    table.attend_partition(piece.attention, unit.partition, piece_states(piece, unit.partition),
                           unit_scratch());
  });
  for (const Piece& piece : pieces) {
    table.merge_partitions(piece.attention, piece.partitions, piece_states(piece, 0),
                           unit_scratch());
  }
}

}  // namespace rocmforge
