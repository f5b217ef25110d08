// From the name of a block format to its struct.
//
// A further format is a struct in block_formats.h, a row in block_shapes.h and a case here.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// Calls use.template operator()<Format>() with the struct of the format.
template <typename IntegerUse, typename PlainUse>
inline auto with_format(BlockFormat format, IntegerUse integer, PlainUse plain) {
  switch (format) {
    case BlockFormat::q4_0:
      return integer.template operator()<Q4_0>();
    case BlockFormat::q4_1:
      return integer.template operator()<Q4_1>();
    case BlockFormat::q5_0:
      return integer.template operator()<Q5_0>();
    case BlockFormat::q5_1:
      return integer.template operator()<Q5_1>();
    case BlockFormat::q8_0:
      return integer.template operator()<Q8_0>();
    case BlockFormat::q2_k:
      return integer.template operator()<Q2_K>();
    case BlockFormat::q3_k:
      return integer.template operator()<Q3_K>();
    case BlockFormat::q4_k:
      return integer.template operator()<Q4_K>();
    case BlockFormat::q5_k:
      return integer.template operator()<Q5_K>();
    case BlockFormat::q6_k:
      return integer.template operator()<Q6_K>();
    case BlockFormat::iq4_nl:
      return integer.template operator()<IQ4_NL>();
    case BlockFormat::iq4_xs:
      return integer.template operator()<IQ4_XS>();
    case BlockFormat::mxfp4:
      return integer.template operator()<MXFP4>();
    case BlockFormat::tq1_0:
      return integer.template operator()<TQ1_0>();
    case BlockFormat::tq2_0:
      return integer.template operator()<TQ2_0>();
    case BlockFormat::iq2_xxs:
      return integer.template operator()<IQ2_XXS>();
    case BlockFormat::iq2_xs:
      return integer.template operator()<IQ2_XS>();
    case BlockFormat::iq2_s:
      return integer.template operator()<IQ2_S>();
    case BlockFormat::iq3_xxs:
      return integer.template operator()<IQ3_XXS>();
    case BlockFormat::iq3_s:
      return integer.template operator()<IQ3_S>();
    case BlockFormat::iq1_s:
      return integer.template operator()<IQ1_S>();
    case BlockFormat::iq1_m:
      return integer.template operator()<IQ1_M>();
    case BlockFormat::nvfp4:
      return integer.template operator()<NVFP4>();
    case BlockFormat::q1_0:
      return integer.template operator()<Q1_0>();
    case BlockFormat::f16:
      return plain.template operator()<PlainF16>();
    case BlockFormat::bf16:
      return plain.template operator()<PlainBF16>();
    case BlockFormat::f32:
      break;
  }
  return plain.template operator()<PlainF32>();
}

}  // namespace rocmforge::ROCMFORGE_LAYER
