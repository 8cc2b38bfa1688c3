// bfloat16, kept as its 16 bits: the upper half of a float.
#pragma once

#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"

namespace megamoe {

// Exact; a NaN keeps its payload.
MEGAMOE_HD constexpr float bf16_to_float(std::uint16_t bits) {
  return float_from_bits(static_cast<std::uint32_t>(bits) << 16);
}

// Round to nearest even; past the largest finite value comes Inf; a NaN keeps its sign and upper payload, made quiet.
MEGAMOE_HD constexpr std::uint16_t bf16_from_float(float value) {
  const std::uint32_t bits = float_bits(value);
  if (float_is_nan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x0040u);
  const std::uint32_t tie_to_even = (bits >> 16) & 1u;
  return static_cast<std::uint16_t>((bits + 0x7FFFu + tie_to_even) >> 16);
}

}  // namespace megamoe
