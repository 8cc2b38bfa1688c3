// The bits of a float and back, usable in constant expressions, on the host and on the device.
// std::bit_cast is a host function to nvcc; the builtin under it is not.
#pragma once

#include <cstdint>

#include "megamoe/host_device.h"

namespace megamoe {

inline constexpr std::uint32_t kFloatSignBit = 0x80000000u;
inline constexpr std::uint32_t kFloatInfBits = 0x7F800000u;  // larger magnitudes are NaN
inline constexpr std::uint32_t kFloatQuietNanBits = 0x7FC00000u;
inline constexpr float kFloatMinNormal = 0x1p-126f;

MEGAMOE_HD constexpr std::uint32_t float_bits(float value) { return __builtin_bit_cast(std::uint32_t, value); }

MEGAMOE_HD constexpr float float_from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

// |value|; also clears the sign of a NaN.
MEGAMOE_HD constexpr float float_abs(float value) { return float_from_bits(float_bits(value) & ~kFloatSignBit); }

MEGAMOE_HD constexpr bool float_is_nan(float value) { return (float_bits(value) & ~kFloatSignBit) > kFloatInfBits; }

// Minimum and maximum of non-negative integers by arithmetic. Of comparisons some compilers (GCC 12) make branches, and
// then no vector code of the loop around them.
MEGAMOE_HD constexpr std::int32_t branchless_min(std::int32_t a, std::int32_t b) {
  return a + ((b - a) & ((b - a) >> 31));
}
MEGAMOE_HD constexpr std::int32_t branchless_max(std::int32_t a, std::int32_t b) {
  return a + ((b - a) & ~((b - a) >> 31));
}

}  // namespace megamoe
