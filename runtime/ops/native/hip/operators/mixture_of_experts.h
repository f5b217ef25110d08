#pragma once

#include <vector>

#include "../../operators/mixture_of_experts.h"
#include "../matrix.h"
#include "gating.h"

namespace rocmforge::hip {

// Routing, too, is computed on the device: the host knows how many slots there are, not whose.
class MixtureOfExperts {
 public:
  static constexpr const char* name = rocmforge::MixtureOfExperts::name;
  static constexpr auto& inputs = rocmforge::MixtureOfExperts::inputs;
  static constexpr auto& outputs = rocmforge::MixtureOfExperts::outputs;
  static constexpr bool reads_on_host(size_t input) { return input >= 2 && input < 5; }

  explicit MixtureOfExperts(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  PlacedSlots place(Stream stream, Scratch& scratch, const Routing& routing,
                    int64_t tile_slots) const;

  int64_t columns_;
  int64_t hidden_;
  int64_t used_;
  int32_t is_sigmoid_;
  int32_t groups_;
  int32_t groups_used_;
  int32_t renormalize_;
  float scale_;
  GatingKernel gating_;
  ScratchMemory memory_;
  std::vector<Matrix> matrices_;
  Kernel<int32_t*, float*, const float*, const float*, int32_t, int32_t, int32_t, int32_t, int32_t,
         int32_t, int32_t, float>
      route_;
  Kernel<int32_t*, int32_t*, const int32_t*, int32_t, int32_t, int32_t, int32_t> place_;
  Kernel<float*, const float*, const float*, int32_t, int32_t> combine_;
};

}  // namespace rocmforge::hip
