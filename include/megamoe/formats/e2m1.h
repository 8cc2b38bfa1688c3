// E2M1, the 4-bit element of NVFP4 and MXFP4 (OCP Microscaling Formats, FP4): bit 3 sign, bits 2..0 a magnitude out of
// 0, 0.5, 1, 1.5, 2, 3, 4, 6. There is no NaN and no Inf; 0x8 is minus zero.
//
// A code is a uint8_t whose low 4 bits count; the functions that read codes ignore the high ones.
#pragma once

#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"

namespace megamoe {

inline constexpr float kE2m1Max = 6.0f;
inline constexpr std::uint8_t kE2m1SignBit = 0x8;

// Twice the value, always an integer: 0, ±1, ±2, ±3, ±4, ±6, ±8, ±12. Both zeros give 0.
MEGAMOE_HD constexpr int e2m1_doubled(std::uint8_t code) {
  constexpr std::uint64_t kDoubled = 0x0C08060403020100u;  // byte i = twice the magnitude i: a table without memory
  const int magnitude = static_cast<int>((kDoubled >> ((code & 7u) * 8u)) & 0xFFu);
  return (code & kE2m1SignBit) != 0 ? -magnitude : magnitude;
}

// Exact; 0x8 gives -0.0f.
MEGAMOE_HD constexpr float e2m1_to_float(std::uint8_t code) {
  const float magnitude = 0.5f * static_cast<float>(e2m1_doubled(code & 7u));
  return float_from_bits(float_bits(magnitude) | (static_cast<std::uint32_t>(code & kE2m1SignBit) << 28));
}

// The nearest code; a tie goes to the even code; magnitudes above 6 saturate to 6; the sign is kept, so -0.0f gives
// 0x8. As the PTX conversion cvt.rn.satfinite.e2m1x2.f32 for every number. NaN gives 0: E2M1 cannot say NaN, so a
// quantiser must carry it in the block scale. Sums of comparisons instead of branches, so that a loop over a block
// vectorises.
MEGAMOE_HD constexpr std::uint8_t e2m1_from_float(float value) {
  const float a = float_abs(value);
  const unsigned magnitude = static_cast<unsigned>(a > 0.25f) + static_cast<unsigned>(a >= 0.75f) +
                             static_cast<unsigned>(a > 1.25f) + static_cast<unsigned>(a >= 1.75f) +
                             static_cast<unsigned>(a > 2.5f) + static_cast<unsigned>(a >= 3.5f) +
                             static_cast<unsigned>(a > 5.0f);
  const unsigned sign = (float_bits(value) >> 28) & kE2m1SignBit;
  return static_cast<std::uint8_t>(a == a ? (magnitude | sign) : 0u);
}

}  // namespace megamoe
