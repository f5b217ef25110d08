#pragma once

#include <vector>

#include "products.h"

namespace rocmforge {

// RMSNorm, then up to three products of its result; or two of them gated by an activation. The norm
// is rounded once for all products, and the gate never goes through another operator.
class NormQuantMatMul {
 public:
  static constexpr const char* name = "NormQuantMatMul";
  static constexpr int most_products = 3;
  static constexpr Port inputs[] = {
      {"x", ort::ElementType::float32},
      {"weight", ort::ElementType::float32},
      {"residual", ort::ElementType::float32, ort::Presence::optional},
      {"blocks_0", ort::ElementType::uint8},
      {"bias_0", ort::ElementType::float32, ort::Presence::optional},
      {"blocks_1", ort::ElementType::uint8, ort::Presence::optional},
      {"bias_1", ort::ElementType::float32, ort::Presence::optional},
      {"blocks_2", ort::ElementType::uint8, ort::Presence::optional},
      {"bias_2", ort::ElementType::float32, ort::Presence::optional}};
  static constexpr Port outputs[] = {{"y_0", ort::ElementType::float32},
                                     {"sum", ort::ElementType::float32, ort::Presence::optional},
                                     {"y_1", ort::ElementType::float32, ort::Presence::optional},
                                     {"y_2", ort::ElementType::float32, ort::Presence::optional}};

  // `formats` and `rows` have an entry for each product, parted by spaces.
  explicit NormQuantMatMul(const Attributes& attributes);
  void compute(const Context& context) const;

 private:
  struct Matrix {
    Weights weights;
    int64_t rows;
  };

  std::vector<Matrix> matrices_;
  int64_t columns_;
  float epsilon_;
  // Null, or what gates the second product by the first.
  Activation KernelTable::* activation_ = nullptr;
};

}  // namespace rocmforge
