#include "grouped_quant_matmul.h"

#include <algorithm>

namespace rocmforge::hip {

GroupedQuantMatMul::GroupedQuantMatMul(const Attributes& attributes)
    : columns_(attributes.integer("columns", 1)),
      groups_(attributes.integer("groups", 1)),
      memory_(attributes),
      matrix_(uploaded(attributes, name, 1, inputs[1], attributes.text("format"), columns_)),
      place_("place_groups") {
  if (matrix_.rows() % groups_ != 0) {
    attributes.fail(inputs[1].name,
                    "does not have the rows of " + std::to_string(groups_) + " matrices");
  }
}

void GroupedQuantMatMul::compute(const Context& context) const {
  const auto x = context.input<float>(0, {any_size, groups_ * columns_});
  const int64_t tokens = x.shape[0], slots = tokens * groups_;
  float* y = context.output<float>(0, {tokens, matrix_.rows()});
  if (tokens == 0) return;

  const auto narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  const Stream stream = context.stream();
  Scratch scratch(memory_);
  // The slots of one token have no expert in common.
  Routing routing{nullptr, slots, groups_, std::max(groups_, Routing::usual_lone_slots)};
  const int64_t tile = matrix_.tile_slots(routing);
  int32_t *chosen = nullptr, *tiled_slots = nullptr, *experts = nullptr;
  const int64_t tiles = tile == 0 ? 0 : ceiling_divide(slots, tile) + groups_;
  if (tile == 0) {
    chosen = scratch.take<int32_t>(slots);
  } else {
    tiled_slots = scratch.take<int32_t>(tiles * tile);
    experts = scratch.take<int32_t>(tiles);
  }
  const int64_t numbers = tile == 0 ? slots : tiles * tile;
  place_(stream, {ceiling_divide(numbers, place_.constant("BLOCK"))}, tiled_slots, experts, chosen,
         narrow(tokens), narrow(groups_), narrow(std::max<int64_t>(tile, 1)), narrow(tiles));
  routing.chosen = chosen;
  Activations activations(x.data, tokens * groups_ * columns_);
  matrix_.multiply(stream, scratch, y, activations, nullptr, routing, 1, {tiled_slots, experts});
}

}  // namespace rocmforge::hip
