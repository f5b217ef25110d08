// Attention over the pages of one row, for the query heads of one key-value head.
#pragma once

#include <algorithm>

#include "attention_tile.h"

namespace rocmforge::ROCMFORGE_LAYER {

// Up to this many queries read the pages as they are; more share a tile made float32 once.
constexpr int64_t few_queries = 8;

inline int64_t attention_state(const Attention& args) {
  return Softmax::size(padded(args.layer.head_dim));
}

inline int64_t group_of(const Attention& args) { return args.heads / args.layer.kv_heads; }
inline int64_t queries_of(const Attention& args) { return args.tokens * group_of(args); }

// Scratch: keys and values of a tile, all queries, and for each query a partition's state and the
// merged state.
inline int64_t attention_scratch(const Attention& args) {
  const int64_t width = padded(args.layer.head_dim);
  return 2 * tile_positions * width + queries_of(args) * (width + 2 * attention_state(args));
}

struct AttentionMemory {
  float* keys;
  float* values;
  float* queries;
  float* partials;
  float* merged;

  AttentionMemory(const Attention& args, float* scratch) {
    const int64_t width = padded(args.layer.head_dim);
    keys = scratch;
    values = keys + tile_positions * width;
    queries = values + tile_positions * width;
    partials = queries + queries_of(args) * width;
    merged = partials + queries_of(args) * attention_state(args);
  }
};

inline Softmax softmax_at(const Attention& args, float* states, int64_t query) {
  return {states + query * attention_state(args), padded(args.layer.head_dim)};
}

inline const float* query_at(const Attention& args, int64_t query) {
  const int64_t group = group_of(args);
  const int64_t head = args.kv_head * group + query % group;
  return args.q + (query / group * args.heads + head) * args.layer.head_dim;
}

inline void load_queries(const Attention& args, float* queries) {
  const int64_t width = padded(args.layer.head_dim);
  const F32 scale = broadcast(args.scale);
  for (int64_t i = 0; i < queries_of(args); ++i, queries += width) {
    const float* q = query_at(args, i);
    each_vector(args.layer.head_dim, [=](int64_t at, int64_t some) {
      store(queries + at, multiply(load_some(q + at, some), scale));
    });
  }
}

inline Span overlap(Span a, Span b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}
inline bool empty(Span span) { return span.begin >= span.end; }

// The positions that token t attends to.
inline Span attended(const Attention& args, int64_t t) {
  const int64_t own = args.positions[t];
  if (args.whole_end > 0) {
    if (args.window == 0) return {0, args.whole_end};
    const int64_t reach = args.window / 2, end = own + reach + 1;
    return {own > reach ? own - reach : 0, end < args.whole_end ? end : args.whole_end};
  }
  const int64_t end = own + 1;
  const int64_t begin = args.window > 0 && end > args.window ? end - args.window : 0;
  return {begin, end};
}

// From the first to the last position that some token attends to.
inline Span reached(const Attention& args) {
  Span all = attended(args, 0);
  for (int64_t t = 1; t < args.tokens; ++t) {
    const Span seen = attended(args, t);
    if (seen.begin < all.begin) all.begin = seen.begin;
    if (seen.end > all.end) all.end = seen.end;
  }
  return all;
}

// Calls body(i, key, value) for the positions of a span, i counted from `first`.
template <typename Body>
inline void each_position(const Attention& args, Span positions, int64_t first, const Body& body) {
  const PagedLayer& layer = args.layer;
  int64_t page = positions.begin / layer.page_size;
  int64_t slot = positions.begin - page * layer.page_size;
  for (int64_t at = positions.begin; at < positions.end; ++page, slot = 0) {
    const Half* key = layer.at(args.page_table[page], 0, args.kv_head, slot);
    const Half* value = layer.at(args.page_table[page], 1, args.kv_head, slot);
    for (; slot < layer.page_size && at < positions.end; ++slot, ++at) {
      body(at - first, key, value);
      key += layer.head_dim;
      value += layer.head_dim;
    }
  }
}

// One cached row of `head_dim` values as float32, padded with zeros.
inline void load_row(const Half* row, int64_t head_dim, float* out) {
  int64_t at = 0;
  for (; at + lanes <= head_dim; at += lanes) store(out + at, load_half(row + at));
  if (at < head_dim) {
    Half rest[lanes] = {};
    std::memcpy(rest, row + at, static_cast<size_t>(head_dim - at) * sizeof(Half));
    store(out + at, load_half(rest));
  }
}

// The rows of a partition, and of one tile more, where they lie in the pages. Places before and
// between the positions that are attended to repeat a row that may be read. Behind the last come
// rows that are only fetched ahead: those of the next head, which is likely to be the next to read.
struct PageRows {
  static constexpr int64_t places = partition_positions + tile_positions;
  const Half* keys[places];
  const Half* values[places];

  PageRows(const Attention& args, Span positions, int64_t first) {
    const int64_t begin = positions.begin - first;
    int64_t end = begin;
    each_position(args, positions, first, [&](int64_t i, const Half* key, const Half* value) {
      keys[i] = key;
      values[i] = value;
      end = i + 1;
    });
    std::fill(keys, keys + begin, keys[begin]);
    const bool last_head = args.kv_head + 1 == args.layer.kv_heads;
    const int64_t next_head = last_head ? 0 : args.layer.page_size * args.layer.head_dim;
    const int64_t count = end - begin;
    for (int64_t i = end, from = begin; i < places; ++i, ++from) {
      if (from - begin == count) from = begin;
      keys[i] = keys[from] + next_head;
      values[i] = values[from] + next_head;
    }
  }

  // Asks for the first tile, which nothing before it asked for.
  void fetch(int64_t begin, int64_t head_dim) const {
    constexpr int64_t line = 64 / sizeof(Half);
    const int64_t end = begin + tile_positions < places ? begin + tile_positions : places;
    for (const auto* rows : {keys, values}) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t at = 0; at < head_dim; at += line) __builtin_prefetch(rows[i] + at);
      }
    }
  }
};

// Takes a span of the tile into the states of the next queries.
template <int queries, typename T>
inline void add_keys(const Attention& args, const AttentionMemory& memory, const Tile<T>& tile,
                     Span keys, int64_t first, float* states) {
  Softmax softmax[queries];
  for (int n = 0; n < queries; ++n) softmax[n] = softmax_at(args, states, first + n);
  add_keys<queries>(memory.queries + first * tile.width, softmax, tile, keys, args.softcap);
}

// Takes one tile into the states of all queries, together where they see the same positions of it.
template <typename T>
inline void add_tile(const Attention& args, const AttentionMemory& memory, const Tile<T>& tile,
                     int64_t first, Span positions, float* states) {
  const int64_t group = group_of(args);
  const auto seen_by = [&](int64_t t) { return overlap(positions, attended(args, t)); };
  for (int64_t t = 0, next; t < args.tokens; t = next) {
    const Span seen = seen_by(t);
    for (next = t + 1; next < args.tokens; ++next) {
      const Span other = seen_by(next);
      if (other.begin != seen.begin || other.end != seen.end) break;
    }
    if (empty(seen)) continue;
    const Span keys{seen.begin - first, seen.end - first};
    for (int64_t i = t * group, end = next * group; i < end;) {
      // As few groups as there can be, and those as alike as they can be.
      const int64_t left = end - i, groups = (left + tile_queries - 1) / tile_queries;
      const int64_t some = (left + groups - 1) / groups;
      if (some == 4) add_keys<4>(args, memory, tile, keys, i, states);
      if (some == 3) add_keys<3>(args, memory, tile, keys, i, states);
      if (some == 2) add_keys<2>(args, memory, tile, keys, i, states);
      if (some == 1) add_keys<1>(args, memory, tile, keys, i, states);
      i += some;
    }
  }
}

inline void reset(const Attention& args, float* states) {
  const int64_t size = queries_of(args) * attention_state(args);
  std::memset(states, 0, static_cast<size_t>(size) * sizeof(float));
  for (int64_t i = 0; i < queries_of(args); ++i) {
    softmax_at(args, states, i).largest_logit() = -__builtin_inff();
  }
}

inline void fill_partition(const Attention& args, const AttentionMemory& memory, int64_t partition,
                           float* states) {
  reset(args, states);
  const int64_t begin = partition * partition_positions, end = begin + partition_positions;
  const Span all = reached(args), positions = overlap({begin, end}, all);
  if (empty(positions)) return;
  const PageRows rows(args, overlap({begin, end + tile_positions}, all), begin);
  const int64_t head_dim = args.layer.head_dim;
  const bool in_place = queries_of(args) <= few_queries && head_dim % lanes == 0;
  if (in_place) rows.fetch(positions.begin - begin, head_dim);
  const int64_t width = padded(head_dim);
  const float *keys[tile_positions], *values[tile_positions];
  for (int64_t i = 0; i < tile_positions; ++i) {
    keys[i] = memory.keys + i * width;
    values[i] = memory.values + i * width;
  }
  for (int64_t first = begin; first < positions.end; first += tile_positions) {
    const Span here = overlap({first, first + tile_positions}, positions);
    if (empty(here)) continue;
    const Tile<Half> in_pages{rows.keys + (first - begin), rows.values + (first - begin), width};
    if (in_place) {
      add_tile(args, memory, in_pages, first, here, states);
      continue;
    }
    for (int64_t i = here.begin - first; i < here.end - first; ++i) {
      load_row(in_pages.keys[i], head_dim, memory.keys + i * width);
      load_row(in_pages.values[i], head_dim, memory.values + i * width);
    }
    add_tile(args, memory, Tile<float>{keys, values, width}, first, here, states);
  }
}

// Takes one partition's states into the merged ones.
inline void merge(const Attention& args, float* partials, float* merged) {
  const int64_t width = padded(args.layer.head_dim), size = attention_state(args);
  for (int64_t i = 0; i < queries_of(args); ++i) {
    const Softmax from = softmax_at(args, partials, i), into = softmax_at(args, merged, i);
    if (from.denominator() == 0) continue;
    if (into.denominator() == 0) {
      std::memcpy(into.memory, from.memory, static_cast<size_t>(size) * sizeof(float));
      continue;
    }
    const float top =
        from.largest_logit() > into.largest_logit() ? from.largest_logit() : into.largest_logit();
    const F32 keep = exponential(broadcast(into.largest_logit() - top));
    const F32 take = exponential(broadcast(from.largest_logit() - top));
    for (int64_t at = 0; at < width; at += lanes) {
      const F32 kept = multiply(load(into.weighted() + at), keep);
      store(into.weighted() + at, fma(load(from.weighted() + at), take, kept));
    }
    const F32 kept = multiply(broadcast(into.denominator()), keep);
    store_first(&into.denominator(), fma(broadcast(from.denominator()), take, kept), 1);
    into.largest_logit() = top;
  }
}

inline void write_outputs(const Attention& args, float* merged) {
  for (int64_t i = 0; i < queries_of(args); ++i) {
    const Softmax state = softmax_at(args, merged, i);
    const int64_t head = args.kv_head * group_of(args) + i % group_of(args);
    float top = state.largest_logit();
    F32 keep = broadcast(1.0f), denominator = broadcast(state.denominator());
    if (args.sinks != nullptr) {
      if (args.sinks[head] > top) top = args.sinks[head];
      keep = exponential(broadcast(state.largest_logit() - top));
      denominator = fma(denominator, keep, exponential(broadcast(args.sinks[head] - top)));
    }
    const F32 factor = divide(keep, denominator);
    float* out = args.output + (query_at(args, i) - args.q);
    each_vector(args.layer.head_dim, [=](int64_t at, int64_t some) {
      store_some(out + at, multiply(load(state.weighted() + at), factor), some);
    });
  }
}

inline void attend(const Attention& args, float* scratch) {
  const AttentionMemory memory(args, scratch);
  load_queries(args, memory.queries);
  const Span all = reached(args);
  const int64_t first = all.begin / partition_positions;
  const int64_t end = (all.end - 1) / partition_positions + 1;
  fill_partition(args, memory, first, memory.merged);
  for (int64_t partition = first + 1; partition < end; ++partition) {
    fill_partition(args, memory, partition, memory.partials);
    merge(args, memory.partials, memory.merged);
  }
  write_outputs(args, memory.merged);
}

inline void attend_partition(const Attention& args, int64_t partition, float* states,
                             float* scratch) {
  const AttentionMemory memory(args, scratch);
  load_queries(args, memory.queries);
  fill_partition(args, memory, partition, states);
}

inline void merge_partitions(const Attention& args, int64_t count, float* states, float* scratch) {
  const AttentionMemory memory(args, scratch);
  reset(args, memory.merged);
  for (int64_t i = 0; i < count; ++i) {
    merge(args, states + i * queries_of(args) * attention_state(args), memory.merged);
  }
  write_outputs(args, memory.merged);
}

}  // namespace rocmforge::ROCMFORGE_LAYER
