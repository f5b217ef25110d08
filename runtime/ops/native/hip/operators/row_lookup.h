#pragma once

#include "../../operators/row_lookup.h"
#include "../matrix.h"

namespace rocmforge::hip {

class RowLookup {
 public:
  static constexpr const char* name = rocmforge::RowLookup::name;
  static constexpr auto& inputs = rocmforge::RowLookup::inputs;
  static constexpr auto& outputs = rocmforge::RowLookup::outputs;
  static constexpr bool reads_on_host(size_t input) { return input == 0; }

  explicit RowLookup(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  using Plane = const void*;

  std::shared_ptr<const DeviceWeights> weights_;
  Kernel<float*, const int32_t*, Plane, Plane, Plane, Plane, int64_t, int64_t, float, int32_t,
         int32_t, int32_t>
      kernel_;
};

}  // namespace rocmforge::hip
