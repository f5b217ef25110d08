#pragma once

#include <vector>

#include "choice.h"
#include "products.h"

namespace rocmforge {

// Computes the experts that a router selects for each token, and adds up their outputs. Every
// expert is a feed-forward, gated or not; the matrices of all experts are concatenated.
class MixtureOfExperts {
 public:
  static constexpr const char* name = "MixtureOfExperts";
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"router", ort::ElementType::float32},
      {"gate", ort::ElementType::uint8, ort::Presence::optional},
      {"up", ort::ElementType::uint8},
      {"down", ort::ElementType::uint8},
      {"gate_bias", ort::ElementType::float32, ort::Presence::optional},
      {"up_bias", ort::ElementType::float32, ort::Presence::optional},
      {"down_bias", ort::ElementType::float32, ort::Presence::optional},
      {"selection_bias", ort::ElementType::float32, ort::Presence::optional},
      {"gate_scale", ort::ElementType::float32, ort::Presence::optional},
      {"up_scale", ort::ElementType::float32, ort::Presence::optional},
      {"down_scale", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y", ort::ElementType::float32}};

  // `formats` are those of gate (if there is one), up and down, parted by spaces. A gate may also
  // stand in `up`, before each expert's own rows.
  explicit MixtureOfExperts(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  // The experts of every token, and the slots (token, choice) sorted by expert.
  struct Routing {
    std::vector<float> shares;         // [T * used]
    std::vector<int64_t> place;        // [T * used]: of a slot in the order by expert
    std::vector<int64_t> token;        // [T * used]: of a place in the order by expert
    std::vector<int64_t> expert;       // [T * used]: of a place
    std::vector<int64_t> first_place;  // [experts + 1]
  };
  Routing route(const float* router, const float* selection_bias, int64_t tokens,
                int64_t experts) const;

  int64_t columns_;
  int64_t hidden_;
  Choice choice_;
  // Of some rows of gate and up; gate is written to.
  void activate(float* gate, const float* up, int64_t count) const;

  enum class Kind { silu, gelu, clamped_silu, relu_squared, relu, capped_silu, silu_of_capped };
  Kind kind_;
  float limit_;  // of the capped ones
  bool is_gated_;
  bool is_fused_;  // gate and up are in one matrix
  std::vector<Weights> weights_;
};

}  // namespace rocmforge
