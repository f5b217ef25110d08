// One token's step of recurrent layers.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// `vectors` vectors of columns from `first` on, of which `some` values are there; all rows of those
// columns are read twice, which a cache of the first level holds.
template <int vectors>
inline void delta_columns(const DeltaStep& step, int64_t first, int64_t some) {
  const auto at = [&](int64_t row, int v) {
    return step.state + row * step.width + first + v * lanes;
  };
  F32 found[vectors], read[vectors];
  for (int v = 0; v < vectors; ++v) found[v] = read[v] = broadcast(0.0f);
  for (int64_t row = 0; row < step.width; ++row) {
    const F32 key = broadcast(step.key[row]), kept = broadcast(step.kept[row]);
    for (int v = 0; v < vectors; ++v) {
      const F32 decayed = multiply(load_some(at(row, v), some), kept);
      store_some(at(row, v), decayed, some);
      found[v] = fma(decayed, key, found[v]);
    }
  }
  const F32 share = broadcast(step.share);
  for (int v = 0; v < vectors; ++v) {
    const F32 value = load_some(step.value + first + v * lanes, some);
    found[v] = multiply(subtract(value, found[v]), share);
  }
  for (int64_t row = 0; row < step.width; ++row) {
    const F32 key = broadcast(step.key[row]), query = broadcast(step.query[row]);
    for (int v = 0; v < vectors; ++v) {
      const F32 corrected = fma(found[v], key, load_some(at(row, v), some));
      store_some(at(row, v), corrected, some);
      read[v] = fma(corrected, query, read[v]);
    }
  }
  for (int v = 0; v < vectors; ++v) store_some(step.y + first + v * lanes, read[v], some);
}

inline void delta_step(const DeltaStep& step) {
  constexpr int together = 4;
  int64_t first = 0;
  for (; first + together * lanes <= step.width; first += together * lanes) {
    delta_columns<together>(step, first, lanes);
  }
  each_vector(step.width - first,
              [&](int64_t at, int64_t some) { delta_columns<1>(step, first + at, some); });
}

// Vectors lie along the values of a channel's state, whose products with `output` are its answer.
inline void scan_step(const ScanStep& step) {
  const F32 length = broadcast(step.step);
  for (int64_t channel = 0; channel < step.width; ++channel) {
    float* state = step.state + channel * step.states;
    const F32 written = broadcast(step.x[channel] * step.step);
    F32 read = broadcast(0.0f);
    each_vector(step.states, [&](int64_t at, int64_t some) {
      const F32 kept = step.decay == nullptr
                           ? broadcast(step.kept)
                           : exponential(multiply(load_some(step.decay + at, some), length));
      const F32 entering = multiply(written, load_some(step.input + at, some));
      const F32 now = fma(kept, load_some(state + at, some), entering);
      store_some(state + at, now, some);
      read = fma(now, load_some(step.output + at, some), read);
    });
    step.y[channel] = sum(read) + step.skip * step.x[channel];
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
