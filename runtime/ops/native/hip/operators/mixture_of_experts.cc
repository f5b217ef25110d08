#include "mixture_of_experts.h"

#include <sstream>

namespace rocmforge::hip {
namespace {

constexpr size_t matrix_count = 3, first_matrix = 2, first_bias = 5, selection_bias = 8,
                 first_scale = 9;
constexpr int64_t most_experts = 512;

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

// The attributes, where the kernels compute what they ask for.
const Attributes& supported(const Attributes& attributes) {
  const std::string activation = attributes.text("activation");
  for (const char* known : {"relu", "relu_squared", "capped_silu", "silu_of_capped"}) {
    if (activation == known) {
      attributes.fail("activation", "'" + activation + "' is none that the GPU kernels compute");
    }
  }
  for (size_t i = first_scale; i < first_scale + matrix_count; ++i) {
    if (attributes.constant(i).data != nullptr) {
      attributes.fail("formats", "have scales of experts, which the GPU kernels do not read");
    }
  }
  return attributes;
}

}  // namespace

MixtureOfExperts::MixtureOfExperts(const Attributes& attributes)
    : columns_(supported(attributes).integer("columns", 1)),
      hidden_(attributes.integer("hidden", 1)),
      used_(attributes.integer("used", 1)),
      is_sigmoid_(attributes.text_or("gating", "softmax") == "sigmoid"),
      groups_(narrow(attributes.integer_or("groups", 1, 1))),
      groups_used_(narrow(attributes.integer_or("groups_used", 1, 1))),
      renormalize_(attributes.integer("renormalize", 0) != 0),
      scale_(attributes.real_or("scale", 1.0f)),
      gating_(attributes, attributes.text("activation")),
      memory_(attributes),
      route_("route_tokens"),
      place_("place_slots"),
      combine_("combine_answers") {
  std::istringstream formats(attributes.text("formats"));
  std::string format;
  for (size_t i = 0; i < matrix_count; ++i) {
    if (!(formats >> format)) {
      attributes.fail("formats", "must be three: the GPU kernels read gate and up apart");
    }
    const size_t input = first_matrix + i;
    matrices_.emplace_back(
        uploaded(attributes, name, input, inputs[input], format, i < 2 ? columns_ : hidden_));
  }
}

PlacedSlots MixtureOfExperts::place(Stream stream, Scratch& scratch, const Routing& routing,
                                    int64_t tile_slots) const {
  const int64_t tiles = ceiling_divide(routing.slots, tile_slots) + routing.experts;
  auto* slots = scratch.take<int32_t>(tiles * tile_slots);
  auto* experts = scratch.take<int32_t>(tiles);
  place_(stream, {routing.experts}, slots, experts, routing.chosen, narrow(routing.slots),
         narrow(routing.experts), narrow(tile_slots), narrow(tiles));
  return {slots, experts};
}

void MixtureOfExperts::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, columns_});
  const int64_t tokens = x.shape[0];
  const auto router = context.input<float>(1, {tokens, any_size});
  const int64_t experts = router.shape[1], slots = tokens * used_;
  if (experts > most_experts || experts % groups_ != 0 ||
      used_ > experts / groups_ * groups_used_) {
    context.fail("router", "has " + std::to_string(experts) + " experts; the GPU kernels choose " +
                               std::to_string(used_) + " among at most 512");
  }
  const auto bias = context.input<float>(selection_bias, {experts});
  const int64_t outputs[] = {hidden_, hidden_, columns_};
  const float* biases[matrix_count];
  for (size_t i = 0; i < matrix_count; ++i) {
    if (matrices_[i].rows() != experts * outputs[i]) {
      context.fail(inputs[first_matrix + i].name, "does not have the rows of every expert");
    }
    biases[i] = context.input<float>(first_bias + i, {experts, outputs[i]}).data;
  }
  for (size_t i = first_scale; i < first_scale + matrix_count; ++i) {
    if (context.input<float>(i, {experts}).data != nullptr) {
      context.fail(inputs[i].name, "is not supported on a GPU");
    }
  }
  float* y = context.output<float>(0, {tokens, columns_});
  if (tokens == 0) return;

  const Stream stream = context.stream();
  Scratch scratch(memory_);
  auto* chosen = scratch.take<int32_t>(slots);
  auto* shares = scratch.take<float>(slots);
  route_(stream, {tokens}, chosen, shares, router.data, bias.data, narrow(experts), narrow(used_),
         bias.data != nullptr, is_sigmoid_, groups_, groups_used_, renormalize_, scale_);

  const Routing routing{chosen, slots, experts};
  Activations given(x.data, tokens * columns_);
  float* values[matrix_count];
  PlacedSlots placed{};
  int64_t placed_tile = 0;
  for (size_t i = 0; i < matrix_count; ++i) {
    const int64_t tile = matrices_[i].tile_slots(routing);
    if (tile != 0 && tile != placed_tile) {
      placed = place(stream, scratch, routing, tile);
      placed_tile = tile;
    }
    values[i] = scratch.take<float>(slots * outputs[i]);
    const bool is_down = i == 2;
    if (is_down) gating_(stream, values[0], values[0], values[1], slots * hidden_);
    Activations gated(values[0], slots * hidden_);
    matrices_[i].multiply(stream, scratch, values[i], is_down ? gated : given, biases[i], routing,
                          is_down ? 1 : used_, placed);
  }
  const int64_t blocks = ceiling_divide(columns_, combine_.constant("BLOCK"));
  combine_(stream, {tokens, blocks}, y, values[2], shares, narrow(columns_), narrow(used_));
}

}  // namespace rocmforge::hip
