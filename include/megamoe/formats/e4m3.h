// E4M3 in its "fn" form (OCP 8-bit Floating Point; safetensors F8_E4M3, torch float8_e4m3fn): 1 sign, 4 exponent (bias
// 7) and 3 mantissa bits. Largest 448 (0x7E), smallest normal 2^-6 (0x08), smallest 2^-9 (0x01), NaN 0x7F and 0xFF, no
// Inf. A block scale of NVFP4 is an E4M3 whose sign is never set.
#pragma once

#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"

namespace megamoe {

inline constexpr float kE4m3Max = 448.0f;
inline constexpr float kE4m3MinSubnormal = 0x1p-9f;
inline constexpr std::uint8_t kE4m3MaxCode = 0x7E;
inline constexpr std::uint8_t kE4m3Nan = 0x7F;
inline constexpr std::uint8_t kE4m3SignBit = 0x80;

MEGAMOE_HD constexpr bool e4m3_is_nan(std::uint8_t code) { return (code & 0x7Fu) == kE4m3Nan; }

// Exact.
MEGAMOE_HD constexpr float e4m3_to_float(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & kE4m3SignBit) << 24;
  const std::uint32_t magnitude = code & 0x7Fu;
  if (magnitude == kE4m3Nan) return float_from_bits(sign | kFloatQuietNanBits);
  // Below 2^-6 the codes count steps of 2^-9; above, exponent and mantissa move to their places in a float.
  const float value = magnitude < 8 ? static_cast<float>(magnitude) * kE4m3MinSubnormal
                                    : float_from_bits((magnitude << 20) + ((127u - 7u) << 23));
  return float_from_bits(float_bits(value) | sign);
}

// The magnitude's code rounded to nearest even as if the format had no upper end: 464 < a < 480 gives 0x7F, and codes
// above 0x7F say how far past the end a is (Inf and NaN included). The two conversions below decide what that means.
MEGAMOE_HD constexpr std::uint32_t e4m3_round_unbounded(float a) {
  const std::uint32_t bits = float_bits(a);
  if (bits < 0x3C800000u)  // a < 2^-6. A float in [2^14, 2^15) has steps of 2^-9, so this sum rounds to a subnormal.
    return float_bits(a + 0x1p14f) - float_bits(0x1p14f);
  const std::uint32_t tie_to_even = (bits >> 20) & 1u;
  return (bits - ((127u - 7u) << 23) + 0x7FFFFu + tie_to_even) >> 20;
}

// Round to nearest even, saturating: magnitudes above 448, Inf too, give ±448. NaN gives 0x7F whatever its sign.
MEGAMOE_HD constexpr std::uint8_t e4m3_from_float(float value) {
  if (float_is_nan(value)) return kE4m3Nan;
  const std::uint32_t code = e4m3_round_unbounded(float_abs(value));
  const std::uint32_t sign = (float_bits(value) >> 24) & kE4m3SignBit;
  return static_cast<std::uint8_t>((code < kE4m3MaxCode ? code : kE4m3MaxCode) | sign);
}

// Round to nearest even without saturation, as torch's conversion to float8_e4m3fn: what rounds above 448 (|value| >
// 464), Inf and NaN become NaN, 0x7F or 0xFF by the sign.
MEGAMOE_HD constexpr std::uint8_t e4m3_from_float_nan_above_max(float value) {
  const std::uint32_t code = e4m3_round_unbounded(float_abs(value));
  const std::uint32_t sign = (float_bits(value) >> 24) & kE4m3SignBit;
  return static_cast<std::uint8_t>((code < kE4m3Nan ? code : kE4m3Nan) | sign);
}

}  // namespace megamoe
