#include "paged_attention.h"

#include <algorithm>
#include <vector>

#include "../instruction_set.h"
#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

// Queries that share one pass over the keys; a cache of the second level holds them.
constexpr int64_t queries_together = 96;
// A piece with more than this part of the whole work is cut by partitions to occupy every thread.
constexpr int64_t most_shares = 16;
// Few enough that the heads of a row, whose pages lie together, mostly stay together.
constexpr int64_t most_batches = 32;

// Some tokens of one row and one key-value head.
struct Piece {
  Attention attention;
  int64_t first_partition, end_partition;
  int64_t work;
  int64_t states = -1;  // where those of its partitions are, if it is cut
};

constexpr int64_t whole = -1;

// A piece, or one partition of it, with its share of the work.
struct Share {
  const Piece* piece;
  int64_t partition;
  int64_t work;
};

// The work is counted in queries times positions.
Piece make_piece(const Attention& attention) {
  const int32_t* positions = attention.positions;
  const auto [first, last] = std::minmax_element(positions, positions + attention.tokens);
  int64_t begin = 0, most = *last;
  if (attention.whole_end > 0) {
    const int64_t reach = attention.window > 0 ? attention.window / 2 : attention.whole_end;
    begin = std::max<int64_t>(0, *first - reach);
    most = std::min(most + reach, attention.whole_end - 1);
  } else if (attention.window > 0) {
    begin = std::max<int64_t>(0, *first + 1 - attention.window);
  }
  const int64_t queries = attention.tokens * (attention.heads / attention.layer.kv_heads);
  return {attention, begin / partition_positions, most / partition_positions + 1,
          queries * (most + 1 - begin)};
}

int64_t states_size(const KernelTable& table, const Attention& attention) {
  const int64_t queries = attention.tokens * (attention.heads / attention.layer.kv_heads);
  return queries * table.attention_state(attention);
}

// The longest come first; short ones go together, so that handing out costs little.
std::vector<Span> batches_of(std::vector<Share>& shares, int64_t least_work) {
  std::stable_sort(shares.begin(), shares.end(),
                   [](const Share& a, const Share& b) { return a.work > b.work; });
  std::vector<Span> batches;
  int64_t begin = 0, work = 0;
  const auto count = static_cast<int64_t>(shares.size());
  for (int64_t i = 0; i < count; ++i) {
    work += shares[static_cast<size_t>(i)].work;
    if (work < least_work && i + 1 < count) continue;
    batches.push_back({begin, i + 1});
    begin = i + 1;
    work = 0;
  }
  return batches;
}

}  // namespace

PagedAttention::PagedAttention(const Attributes& attributes)
    : heads_(attributes),
      scale_(attributes.real("scale")),
      window_(attributes.integer_or("window", 0, 0)),
      softcap_(attributes.real_or("softcap", 0.0f)),
      causal_(attributes.integer_or("causal", 1, 0) != 0) {}

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
  const int64_t group = heads_.heads / heads_.kv_heads;
  const int64_t tokens_together = std::max<int64_t>(1, queries_together / group);
  std::vector<Piece> pieces;
  int64_t work = 0, scratch_size = 0;
  for (int64_t row = 0; row < rows.count(); ++row) {
    const Span span = rows.tokens(row);
    int64_t whole_end = 0;
    for (int64_t t = span.begin; !causal_ && t < span.end; ++t) {
      whole_end = std::max(whole_end, int64_t{rows.positions()[t]} + 1);
    }
    for (int64_t t = span.begin; t < span.end; t += tokens_together) {
      const int64_t count = std::min(tokens_together, span.end - t);
      for (int64_t kv_head = 0; kv_head < heads_.kv_heads; ++kv_head) {
        const Attention attention{layer,
                                  rows.pages(row),
                                  rows.positions() + t,
                                  count,
                                  kv_head,
                                  heads_.heads,
                                  q.data + t * q_width,
                                  y + t * q_width,
                                  sinks.data,
                                  scale_,
                                  window_,
                                  softcap_,
                                  whole_end};
        pieces.push_back(make_piece(attention));
        work += pieces.back().work;
        scratch_size = std::max(scratch_size, table.attention_scratch(attention));
      }
    }
  }

  std::vector<Share> shares;
  int64_t states = 0;
  for (Piece& piece : pieces) {
    const int64_t partitions = piece.end_partition - piece.first_partition;
    if (partitions == 1 || piece.work * most_shares <= work) {
      shares.push_back({&piece, whole, piece.work});
      continue;
    }
    piece.states = states;
    for (int64_t p = piece.first_partition; p < piece.end_partition; ++p) {
      shares.push_back({&piece, p, piece.work / partitions});
      states += states_size(table, piece.attention);
    }
  }
  float* memory = scratch<float>(ScratchUse::call, states);
  const auto unit_scratch = [=] { return scratch<float>(ScratchUse::unit, scratch_size); };
  const auto batches =
      batches_of(shares, std::max(least_unit_work / (2 * heads_.head_dim), work / most_batches));
  context.parallel_for(static_cast<int64_t>(batches.size()), [&](int64_t i) {
    const Span batch = batches[static_cast<size_t>(i)];
    for (int64_t at = batch.begin; at < batch.end; ++at) {
      const Share& share = shares[static_cast<size_t>(at)];
      const Attention& attention = share.piece->attention;
      if (share.partition == whole) {
        table.attend(attention, unit_scratch());
      } else {
        const int64_t before = share.partition - share.piece->first_partition;
        table.attend_partition(
            attention, share.partition,
            memory + share.piece->states + before * states_size(table, attention), unit_scratch());
      }
    }
  });
  for (const Piece& piece : pieces) {
    if (piece.states < 0) continue;
    table.merge_partitions(piece.attention, piece.end_partition - piece.first_partition,
                           memory + piece.states, unit_scratch());
  }
}

}  // namespace rocmforge
