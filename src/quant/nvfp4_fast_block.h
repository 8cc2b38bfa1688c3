// Recipe rne's codes of one block with one division a block instead of sixteen. The bytes are those of
// nvfp4_encode_block: the quotient x / step enters only through comparisons with the seven thresholds between codes,
// and there this file's quotient agrees with the rounded IEEE quotient for every mantissa of step
// (tests/quant/fast_block_test.cc tries all 2^23 of them, with every x near a threshold).
//
// For host and device: the device form is what the CUDA backends run, the host form is what the tests prove.
#pragma once

#include <cmath>
#include <cstdint>

#include "megamoe/formats/nvfp4.h"
#include "megamoe/host_device.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {

// 1 / step as the unevaluated sum of two floats (Brisebarre, Muller and Raina, "Accelerating correctly rounded
// floating-point division when the divisor is known in advance", 2004).
struct StepReciprocal {
  float high;
  float low;

  MEGAMOE_HD static StepReciprocal of(float step) {
    const float high = 1.0f / step;
    // Exact; 1 / step = high * (1 + remainder + remainder^2 + ...).
    const float remainder = std::fma(-step, high, 1.0f);
    const float low = remainder * high;
    // Without the second power one step of the 2^23, the largest below a power of two, goes wrong.
    return {high, std::fma(low, remainder, low)};
  }
  MEGAMOE_HD float times(float x) const { return std::fma(x, high, x * low); }
};

// Where the above holds: nothing overflows, what underflows is far below every threshold, and no quotient is large
// enough to need saturating. Elsewhere nvfp4_encode_block must be asked. False for a NaN.
MEGAMOE_HD inline bool nvfp4_has_fast_form(float block_amax, float step) {
  return step >= 0x1p-60f && step <= 0x1p60f && block_amax <= 6.875f * step;
}

// |value| rounded to the magnitudes of E2M1, nearest and ties to the even code, for |value| < 7: e2m1_rounded_magnitude
// in fewer operations.
MEGAMOE_HD inline float e2m1_rounded_unsaturated(float value) {
  const float magnitude = std::fabs(value);
  const std::uint32_t power = float_bits(magnitude > 1.0f ? magnitude : 1.0f) & kFloatInfBits;
  const float shift = float_from_bits(power + (22u << 23));
  return (magnitude + shift) - shift;
}

// The E2M1 code of one of its magnitudes, in bits 22 to 24 of the result: 2^-126 times a magnitude is a float whose
// exponent and first mantissa bits, subnormals included, count the codes.
MEGAMOE_HD inline std::uint32_t e2m1_code_at_bit_22(float magnitude) { return float_bits(magnitude * 0x1p-126f); }

}  // namespace megamoe
