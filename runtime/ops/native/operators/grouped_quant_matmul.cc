#include "grouped_quant_matmul.h"

#include <algorithm>
#include <vector>

#include "../scratch.h"
#include "../work_units.h"
#include "products.h"

namespace rocmforge {

void GroupedQuantMatMul::compute(const Context& context) const {
  const int64_t columns = weights_.columns;
  const auto x = context.input<float>(0, {any_size, groups_ * columns});
  const int64_t tokens = x.shape[0], places = groups_ * tokens;
  const WeightRows all = weights_.rows(context, 1);
  const int64_t outputs = all.count / groups_;
  weights_.expect_parts(context, inputs[1].name, all, groups_, outputs);
  float* y = context.output<float>(0, {tokens, groups_ * outputs});
  if (places == 0) return;

  // Place g * T + t holds group g of token t, so that each group's rows lie together.
  float* gathered =
      scratch<float>(ScratchUse::call, floats_of_rows(places, columns) + places * outputs);
  const QuantizedRows quantized = rounded_rows(gathered, places, columns);
  float* answers = gathered + floats_of_rows(places, columns);
  std::vector<Product> products;
  for (int64_t group = 0; group < groups_; ++group) {
    Product product(weights_, all, group * outputs, outputs);
    product.args.x = gathered + group * tokens * columns;
    product.args.quantized = quantized.from(group * tokens);
    product.args.y = answers + group * tokens * outputs;
    products.push_back(product);
  }
  const KernelTable& table = kernels();
  const WorkUnits gathering(places, columns, interleaved_rows);
  context.parallel_for(gathering.count(), [&](int64_t unit) {
    const int64_t begin = gathering.begin(unit), end = gathering.end(unit);
    for (int64_t place = begin; place < end; ++place) {
      const int64_t group = place / tokens, token = place % tokens;
      std::copy_n(x.data + (token * groups_ + group) * columns, columns,
                  gathered + place * columns);
    }
    if (!products[0].reads_quantized()) return;
    table.quantize(gathered + begin * columns, columns, begin, end - begin, quantized);
  });
  multiply(context, products, tokens);
  const WorkUnits scattering(places, outputs);
  context.parallel_for(scattering.count(), [&](int64_t unit) {
    for (int64_t place = scattering.begin(unit); place < scattering.end(unit); ++place) {
      const int64_t group = place / tokens, token = place % tokens;
      std::copy_n(answers + place * outputs, outputs, y + (token * groups_ + group) * outputs);
    }
  });
}

}  // namespace rocmforge
