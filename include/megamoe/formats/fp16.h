// IEEE 754 binary16, kept as its 16 bits.
#pragma once

#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"

namespace megamoe {

// Exact; a NaN keeps its payload.
MEGAMOE_HD constexpr float fp16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7FFFu;
  // Below 2^-14 the codes count steps of 2^-24; above, exponent and mantissa move to their places, and the exponent of
  // all ones (Inf, NaN) becomes a float's.
  const float value = magnitude < 0x0400u    ? static_cast<float>(magnitude) * 0x1p-24f
                      : magnitude >= 0x7C00u ? float_from_bits((magnitude << 13) | kFloatInfBits)
                                             : float_from_bits((magnitude << 13) + ((127u - 15u) << 23));
  return float_from_bits(float_bits(value) | sign);
}

// Round to nearest even; magnitudes from 65520 on give Inf; a NaN keeps its sign and upper payload, made quiet.
MEGAMOE_HD constexpr std::uint16_t fp16_from_float(float value) {
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & ~kFloatSignBit;
  if (float_is_nan(value)) return static_cast<std::uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x03FFu));
  if (magnitude >= 0x477FF000u) return static_cast<std::uint16_t>(sign | 0x7C00u);  // 65520 and above
  if (magnitude <
      0x38800000u)  // below 2^-14. A float in [1/2, 1) has steps of 2^-24, so this sum rounds to a subnormal.
    return static_cast<std::uint16_t>(sign | (float_bits(float_from_bits(magnitude) + 0.5f) - float_bits(0.5f)));
  const std::uint32_t tie_to_even = (magnitude >> 13) & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - ((127u - 15u) << 23) + 0x0FFFu + tie_to_even) >> 13));
}

}  // namespace megamoe
