// E8M0, the block scale of MXFP4 (OCP Microscaling Formats): code x is 2^(x - 127), 0xFF is NaN. No sign, no zero.
#pragma once

#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"

namespace megamoe {

inline constexpr std::uint8_t kE8m0Nan = 0xFF;
inline constexpr int kE8m0Bias = 127;

// Exact; code 0 is 2^-127, a subnormal float.
MEGAMOE_HD constexpr float e8m0_to_float(std::uint8_t code) {
  if (code == kE8m0Nan) return float_from_bits(kFloatQuietNanBits);
  return float_from_bits(code == 0 ? 0x00400000u : static_cast<std::uint32_t>(code) << 23);
}

// The largest power of two that is not above value, at least 2^-127 (so 0 gives code 0). Negative values, Inf and NaN
// give NaN.
MEGAMOE_HD constexpr std::uint8_t e8m0_from_float_down(float value) {
  const std::uint32_t bits = float_bits(value + 0.0f);  // -0.0f + 0.0f is +0.0f
  return bits < kFloatInfBits ? static_cast<std::uint8_t>(bits >> 23) : kE8m0Nan;
}

}  // namespace megamoe
