// Attention over the pages of one row, for the query heads of one key-value head.
//
// A softmax that runs over tiles of 32 positions (Dao et al., "FlashAttention", 2022), tiles and
// partitions counted from position 0: what one query computes does not depend on its company.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

constexpr int64_t tile_positions = 32;
static_assert(partition_positions % tile_positions == 0 && tile_positions % lanes == 0);

inline int64_t padded(int64_t width) { return (width + lanes - 1) / lanes * lanes; }

// One query's softmax so far: the largest logit, the sum of e^(logit - largest), and the sum of
// values weighted by the same [padded head_dim].
struct Softmax {
  float* memory;
  float& largest_logit() const { return memory[0]; }
  float& denominator() const { return memory[1]; }
  float* weighted() const { return memory + 2; }
};

inline int64_t attention_state(const Attention& args) { return 2 + padded(args.layer.head_dim); }

inline int64_t queries_of(const Attention& args) {
  return args.tokens * (args.heads / args.layer.kv_heads);
}

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

inline const float* query_at(const Attention& args, int64_t query) {
  const int64_t group = args.heads / args.layer.kv_heads;
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

// Calls body(keys, values, count) for each stretch of [begin, end) that lies in one page.
template <typename Body>
inline void each_page(const Attention& args, Span positions, const Body& body) {
  const PagedLayer& layer = args.layer;
  int64_t page = positions.begin / layer.page_size;
  int64_t slot = positions.begin - page * layer.page_size;
  int64_t left = positions.end - positions.begin;
  for (; left > 0; ++page, slot = 0) {
    const int64_t here = left < layer.page_size - slot ? left : layer.page_size - slot;
    body(layer.at(args.page_table[page], 0, args.kv_head, slot),
         layer.at(args.page_table[page], 1, args.kv_head, slot), here);
    left -= here;
  }
}

// The keys and values at some positions as float32 rows.
inline void load_positions(const Attention& args, Span positions, float* keys, float* values) {
  const int64_t head_dim = args.layer.head_dim, width = padded(head_dim);
  each_page(args, positions, [&](const Half* key, const Half* value, int64_t count) {
    for (int64_t i = 0; i < count; ++i, keys += width, values += width) {
      load_row(key + i * head_dim, head_dim, keys);
      load_row(value + i * head_dim, head_dim, values);
    }
  });
}

// Pages lie scattered: the hardware does not foresee the next one.
inline void prefetch_positions(const Attention& args, Span positions) {
  constexpr int64_t line = 64 / sizeof(Half);
  each_page(args, positions, [&](const Half* key, const Half* value, int64_t count) {
    for (int64_t at = 0; at < count * args.layer.head_dim; at += line) {
      __builtin_prefetch(key + at);
      __builtin_prefetch(value + at);
    }
  });
}

// Logits of one query and the keys [0, end) of the tile, rounded up to whole vectors of keys.
inline void logits_of(const Attention& args, const float* query, const float* keys, int64_t end,
                      float* logits) {
  const int64_t width = padded(args.layer.head_dim);
  for (int64_t first = 0; first < end; first += lanes) {
    F32 products[lanes];
    for (F32& product : products) product = broadcast(0.0f);
    const float* rows = keys + first * width;
    for (int64_t at = 0; at < width; at += lanes) {
      const F32 q = load(query + at);
      for (int i = 0; i < lanes; ++i) {
        products[i] = fma(q, load(rows + i * width + at), products[i]);
      }
    }
    F32 values = sums(products);
    if (args.softcap > 0) {
      const F32 capped = hyperbolic_tangent(divide(values, broadcast(args.softcap)));
      values = multiply(capped, broadcast(args.softcap));
    }
    store(logits + first, values);
  }
}

// weighted = weighted * decay + sum of weights[i] * values[i], `vectors` vectors wide.
template <int vectors>
inline void add_values(const float* weights, Span keys, const float* values, int64_t width,
                       float decay, float* weighted) {
  F32 totals[vectors];
  for (int v = 0; v < vectors; ++v) {
    totals[v] = multiply(load(weighted + v * lanes), broadcast(decay));
  }
  for (int64_t i = keys.begin; i < keys.end; ++i) {
    const F32 weight = broadcast(weights[i]);
    for (int v = 0; v < vectors; ++v) {
      totals[v] = fma(weight, load(values + i * width + v * lanes), totals[v]);
    }
  }
  for (int v = 0; v < vectors; ++v) store(weighted + v * lanes, totals[v]);
}

// Takes the keys [begin, end) of the tile into a query's softmax.
inline void add_tile(const Attention& args, const AttentionMemory& memory, const float* query,
                     Span keys, Softmax state) {
  const float infinity = __builtin_inff();
  float weights[tile_positions];
  logits_of(args, query, memory.keys, keys.end, weights);
  for (int64_t i = 0; i < keys.begin; ++i) weights[i] = -infinity;
  for (int64_t i = keys.end; i < tile_positions; ++i) weights[i] = -infinity;

  F32 bound = broadcast(state.largest_logit());
  for (int64_t i = 0; i < tile_positions; i += lanes) bound = maximum(bound, load(weights + i));
  const float top = largest(bound);
  F32 total = broadcast(0.0f);
  for (int64_t i = 0; i < tile_positions; i += lanes) {
    const F32 weight = exponential(subtract(load(weights + i), broadcast(top)));
    store(weights + i, weight);
    total = add(total, weight);
  }
  float decay[lanes];
  store(decay, exponential(broadcast(state.largest_logit() - top)));
  state.denominator() = state.denominator() * decay[0] + sum(total);
  state.largest_logit() = top;

  const int64_t width = padded(args.layer.head_dim);
  int64_t at = 0;
  for (; at + 8 * lanes <= width; at += 8 * lanes) {
    add_values<8>(weights, keys, memory.values + at, width, decay[0], state.weighted() + at);
  }
  for (; at + 2 * lanes <= width; at += 2 * lanes) {
    add_values<2>(weights, keys, memory.values + at, width, decay[0], state.weighted() + at);
  }
  for (; at < width; at += lanes) {
    add_values<1>(weights, keys, memory.values + at, width, decay[0], state.weighted() + at);
  }
}

inline void reset(const Attention& args, float* states) {
  const int64_t size = attention_state(args);
  std::memset(states, 0, static_cast<size_t>(queries_of(args) * size) * sizeof(float));
  for (int64_t i = 0; i < queries_of(args); ++i) {
    Softmax{states + i * size}.largest_logit() = -__builtin_inff();
  }
}

inline int64_t last_position(const Attention& args) {
  int64_t last = 0;
  for (int64_t t = 0; t < args.tokens; ++t) {
    if (args.positions[t] > last) last = args.positions[t];
  }
  return last;
}

// The positions that token t attends to.
inline Span attended(const Attention& args, int64_t t) {
  const int64_t end = int64_t{args.positions[t]} + 1;
  const int64_t begin = args.window > 0 && end > args.window ? end - args.window : 0;
  return {begin, end};
}

inline Span overlap(Span a, Span b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

inline void fill_partition(const Attention& args, const AttentionMemory& memory, int64_t partition,
                           float* states) {
  const int64_t group = args.heads / args.layer.kv_heads;
  const int64_t width = padded(args.layer.head_dim), size = attention_state(args);
  reset(args, states);
  const Span reached{0, last_position(args) + 1};
  const int64_t begin = partition * partition_positions;
  for (int64_t first = begin; first < begin + partition_positions; first += tile_positions) {
    const Span tile{first, first + tile_positions};
    Span needed{tile.end, tile.begin};
    for (int64_t t = 0; t < args.tokens; ++t) {
      const Span seen = overlap(tile, attended(args, t));
      if (seen.begin >= seen.end) continue;
      needed = {seen.begin < needed.begin ? seen.begin : needed.begin,
                seen.end > needed.end ? seen.end : needed.end};
    }
    if (needed.begin >= needed.end) continue;
    const int64_t skipped = (needed.begin - first) * width;
    load_positions(args, needed, memory.keys + skipped, memory.values + skipped);
    prefetch_positions(args, overlap({tile.end, tile.end + tile_positions}, reached));
    for (int64_t i = 0; i < queries_of(args); ++i) {
      const Span seen = overlap(tile, attended(args, i / group));
      if (seen.begin >= seen.end) continue;
      add_tile(args, memory, memory.queries + i * width, {seen.begin - first, seen.end - first},
               {states + i * size});
    }
  }
}

// Takes one partition's states into the merged ones.
inline void merge(const Attention& args, const float* partials, float* merged) {
  const int64_t width = padded(args.layer.head_dim), size = attention_state(args);
  for (int64_t i = 0; i < queries_of(args); ++i) {
    const Softmax from{const_cast<float*>(partials) + i * size}, into{merged + i * size};
    if (from.denominator() == 0) continue;
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

inline void write_outputs(const Attention& args, const float* merged) {
  const int64_t group = args.heads / args.layer.kv_heads, size = attention_state(args);
  for (int64_t i = 0; i < queries_of(args); ++i) {
    const Softmax state{const_cast<float*>(merged) + i * size};
    const int64_t head = args.kv_head * group + i % group;
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
  const int64_t partitions = last_position(args) / partition_positions + 1;
  load_queries(args, memory.queries);
  reset(args, memory.merged);
  for (int64_t partition = 0; partition < partitions; ++partition) {
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
