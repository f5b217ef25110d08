#include "mixture_of_experts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>
#include <string_view>

#include "../scratch.h"
#include "../work_units.h"

namespace rocmforge {
namespace {

constexpr size_t matrix_count = 3, first_matrix = 2, first_bias = 5, selection = 8, first_scale = 9;
constexpr float clamp_limit = 7.0f, clamp_slope = 1.702f;

void multiply_row(float* row, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) row[i] *= factor;
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

// Products by how many rows they have: those of as many are computed together.
using ProductsByRows = std::map<int64_t, std::vector<Product>>;

void multiply_all(const Context& context, const ProductsByRows& products) {
  for (const auto& [rows, some] : products) multiply(context, some, rows);
}

}  // namespace

MixtureOfExperts::MixtureOfExperts(const Attributes& attributes)
    : columns_(attributes.integer("columns", 1)),
      hidden_(attributes.integer("hidden", 1)),
      choice_(attributes),
      limit_(attributes.real_or("limit", 0.0f)) {
  std::istringstream formats(attributes.text("formats"));
  std::string format;
  std::vector<std::string> names;
  while (formats >> format) names.push_back(format);
  const std::string activation = attributes.text("activation");
  constexpr std::string_view known[] = {"silu", "gelu",        "clamped_silu",  "relu_squared",
                                        "relu", "capped_silu", "silu_of_capped"};
  const auto* place = std::find(std::begin(known), std::end(known), activation);
  if (place == std::end(known)) attributes.fail("activation", "'" + activation + "' is unknown");
  kind_ = static_cast<Kind>(place - std::begin(known));
  is_gated_ = kind_ != Kind::relu_squared;
  if (!is_gated_ && names.size() == matrix_count) {
    attributes.fail("formats", "must name two matrices");
  }
  is_fused_ = is_gated_ && names.size() + 1 == matrix_count;
  // Where gates have no matrix of their own, up's format stands in the place of theirs.
  if (names.size() + 1 == matrix_count) names.insert(names.begin(), names.front());
  if (names.size() != matrix_count) attributes.fail("formats", "must name three matrices, or two");
  for (const std::string& each : names) {
    weights_.emplace_back(attributes, each, weights_.size() < 2 ? columns_ : hidden_);
  }
}

void MixtureOfExperts::activate(float* gate, const float* up, int64_t count) const {
  if (kind_ == Kind::silu) return kernels().silu(gate, up, count, gate);
  if (kind_ == Kind::gelu) return kernels().gelu(gate, up, count, gate);
  const auto each = [=](auto activated) {
    for (int64_t i = 0; i < count; ++i) gate[i] = activated(gate[i], up[i]);
  };
  const float limit = limit_;
  switch (kind_) {
    case Kind::clamped_silu:
      return each([](float gate, float up) {
        const float g = std::min(gate, clamp_limit), u = std::clamp(up, -clamp_limit, clamp_limit);
        return g / (1.0f + std::exp(-clamp_slope * g)) * (u + 1.0f);
      });
    case Kind::relu_squared:
      return each([](float, float up) {
        const float positive = std::max(up, 0.0f);
        return positive * positive;
      });
    case Kind::relu:
      return each([](float gate, float up) { return std::max(gate, 0.0f) * up; });
    case Kind::capped_silu:
      return each([=](float gate, float up) {
        return std::min(silu(gate), limit) * std::clamp(up, -limit, limit);
      });
    default:
      return each([=](float gate, float up) {
        return silu(std::min(gate, limit)) * std::clamp(up, -limit, limit);
      });
  }
}

MixtureOfExperts::Routing MixtureOfExperts::route(const float* router, const float* selection_bias,
                                                  int64_t tokens, int64_t experts) const {
  const int64_t used = choice_.used(), slots = tokens * used;
  Routing routing{std::vector<float>(slots), std::vector<int64_t>(slots),
                  std::vector<int64_t>(slots), std::vector<int64_t>(slots),
                  std::vector<int64_t>(experts + 1)};
  std::vector<int64_t> chosen(slots);
  Choice::Memory memory(experts);
  for (int64_t t = 0; t < tokens; ++t) {
    choice_.make(router + t * experts, selection_bias, memory, &chosen[t * used],
                 &routing.shares[t * used]);
    for (int64_t i = 0; i < used; ++i) ++routing.first_place[chosen[t * used + i] + 1];
  }
  std::partial_sum(routing.first_place.begin(), routing.first_place.end(),
                   routing.first_place.begin());
  std::vector<int64_t> next(routing.first_place.begin(), routing.first_place.end() - 1);
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int64_t place = next[chosen[slot]]++;
    routing.place[slot] = place;
    routing.token[place] = slot / used;
    routing.expert[place] = chosen[slot];
  }
  return routing;
}

void MixtureOfExperts::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, columns_});
  const int64_t tokens = x.shape[0];
  const auto router = context.input<float>(1, {tokens, any_size});
  const int64_t experts = router.shape[1], used = choice_.used(), slots = tokens * used;
  if (!choice_.fits(experts)) context.fail("router", "has too few experts, or no equal groups");
  const float* selection_bias = context.input<float>(selection, {experts}).data;
  const int64_t outputs[] = {hidden_, hidden_, columns_};
  WeightRows matrices[matrix_count];
  const float* biases[matrix_count];
  const float* scales[matrix_count] = {};
  for (size_t i = is_gated_ ? 0 : 1; i < matrix_count; ++i) {
    const bool is_half = is_fused_ && i < 2;
    const size_t input = first_matrix + (is_half ? 1 : i);
    matrices[i] = weights_[i].rows(context, input);
    weights_[i].expect_parts(context, inputs[input].name, matrices[i],
                             is_half ? 2 * experts : experts, outputs[i]);
    biases[i] = context.input<float>(first_bias + i, {experts, outputs[i]}).data;
    scales[i] = context.input<float>(first_scale + i, {experts}).data;
    if (biases[i] != nullptr && scales[i] != nullptr) {
      context.fail(inputs[first_scale + i].name, "is given beside a bias");
    }
  }
  float* y = context.output<float>(0, {tokens, columns_});
  if (tokens == 0) return;

  const Routing routing = route(router.data, selection_bias, tokens, experts);
  const int64_t in_values = slots * columns_, hidden_values = slots * hidden_;
  float* gathered = scratch<float>(
      ScratchUse::call,
      floats_of_rows(slots, columns_) + floats_of_rows(slots, hidden_) + hidden_values + in_values);
  float* gate = gathered + floats_of_rows(slots, columns_);
  float* up = gate + floats_of_rows(slots, hidden_);
  float* answers = up + hidden_values;
  const QuantizedRows quantized = rounded_rows(gathered, slots, columns_);
  const QuantizedRows quantized_hidden = rounded_rows(gate, slots, hidden_);

  const auto rounds = [&](size_t i) {
    return block_shape(weights_[i].format).columns >= activation_block;
  };
  const auto product = [&](size_t i, int64_t expert, const float* from, const QuantizedRows& codes,
                           float* to) {
    const int64_t place = routing.first_place[expert];
    const auto half = static_cast<int64_t>(i);
    const int64_t row = is_fused_ && i < 2 ? (2 * expert + half) * hidden_ : expert * outputs[i];
    Product product(weights_[i], matrices[i], row, outputs[i]);
    product.args.x = from + place * weights_[i].columns;
    product.args.quantized = codes.from(place);
    product.args.bias = biases[i] == nullptr ? nullptr : biases[i] + expert * outputs[i];
    product.args.y = to + place * outputs[i];
    return product;
  };
  ProductsByRows inner, outer;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const int64_t rows = routing.first_place[expert + 1] - routing.first_place[expert];
    if (rows == 0) continue;
    if (is_gated_) inner[rows].push_back(product(0, expert, gathered, quantized, gate));
    inner[rows].push_back(product(1, expert, gathered, quantized, up));
    outer[rows].push_back(product(2, expert, gate, quantized_hidden, answers));
  }

  const KernelTable& table = kernels();
  const WorkUnits gathering(slots, 2 * columns_, interleaved_rows);
  context.parallel_for(gathering.count(), [&](int64_t unit) {
    const int64_t begin = gathering.begin(unit), end = gathering.end(unit);
    for (int64_t place = begin; place < end; ++place) {
      std::copy_n(x.data + routing.token[place] * columns_, columns_, gathered + place * columns_);
    }
    if (!rounds(0) && !rounds(1)) return;
    table.quantize(gathered + begin * columns_, columns_, begin, end - begin, quantized);
  });
  multiply_all(context, inner);
  constexpr int64_t work_of_exponential = 8;
  const WorkUnits gating(slots, hidden_ * work_of_exponential, interleaved_rows);
  context.parallel_for(gating.count(), [&](int64_t unit) {
    const int64_t begin = gating.begin(unit), end = gating.end(unit);
    float* some = gate + begin * hidden_;
    for (int64_t place = begin; place < end; ++place) {
      const int64_t expert = routing.expert[place];
      if (scales[0] != nullptr) multiply_row(gate + place * hidden_, hidden_, scales[0][expert]);
      if (scales[1] != nullptr) multiply_row(up + place * hidden_, hidden_, scales[1][expert]);
    }
    activate(some, up + begin * hidden_, (end - begin) * hidden_);
    if (rounds(2)) table.quantize(some, hidden_, begin, end - begin, quantized_hidden);
  });
  multiply_all(context, outer);
  const WorkUnits adding(tokens, used * columns_);
  context.parallel_for(adding.count(), [&](int64_t unit) {
    for (int64_t t = adding.begin(unit); t < adding.end(unit); ++t) {
      float* sum = y + t * columns_;
      std::fill_n(sum, columns_, 0.0f);
      for (int64_t slot = t * used; slot < (t + 1) * used; ++slot) {
        const int64_t place = routing.place[slot];
        const float* answer = answers + place * columns_;
        const float scale = scales[2] == nullptr ? 1.0f : scales[2][routing.expert[place]];
        const float share = routing.shares[slot] * scale;
        for (int64_t i = 0; i < columns_; ++i) sum[i] += share * answer[i];
      }
    }
  });
}

}  // namespace rocmforge
