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

// Rounding to E2M1 by one addition. A magnitude in [p, 2p), p = 1, 2 or 4, has steps of p/2, and so have the floats
// from p * 2^22 on: adding p * 2^22 rounds to the step, to even on a tie, and leaves the number of steps in the low
// bits. Below 1 the steps are those of p = 1. There are no branches, so compilers turn a loop over this into vector
// code.
struct E2m1Rounding {
  float magnitude;       // min(|value|, 6); of NaN: 6
  float shift;           // p * 2^22
  std::uint32_t p_code;  // the code of p, less 2: what the steps are counted from

  MEGAMOE_HD static constexpr E2m1Rounding of(float value) {
    constexpr std::int32_t kOne = 0x3F800000;  // 1.0f
    constexpr std::int32_t kSix = 0x40C00000;  // 6.0f
    const auto bits = static_cast<std::int32_t>(float_bits(value) & ~kFloatSignBit);
    const std::int32_t magnitude = branchless_min(bits, kSix);
    const std::int32_t p = branchless_max(magnitude & static_cast<std::int32_t>(kFloatInfBits), kOne);
    return {float_from_bits(static_cast<std::uint32_t>(magnitude)),
            float_from_bits(static_cast<std::uint32_t>(p) + (22u << 23)), static_cast<std::uint32_t>(p - kOne) >> 22};
  }
};

// The nearest code; a tie goes to the even code; magnitudes above 6 saturate to 6; the sign is kept, so -0.0f gives
// 0x8. As the PTX conversion cvt.rn.satfinite.e2m1x2.f32 for every number. NaN gives 0: E2M1 cannot say NaN, so a
// quantiser must carry it in the block scale.
MEGAMOE_HD constexpr std::uint8_t e2m1_from_float(float value) {
  const E2m1Rounding r = E2m1Rounding::of(value);
  const std::uint32_t steps = float_bits(r.magnitude + r.shift) - float_bits(r.shift);
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t is_number = ((bits & ~kFloatSignBit) - (kFloatInfBits + 1)) >> 31;
  return static_cast<std::uint8_t>(((steps + r.p_code) | ((bits >> 28) & kE2m1SignBit)) & (0u - is_number));
}

// |e2m1_to_float(e2m1_from_float(value))| of a number, without the detour over the code.
MEGAMOE_HD constexpr float e2m1_rounded_magnitude(float value) {
  const E2m1Rounding r = E2m1Rounding::of(value);
  return (r.magnitude + r.shift) - r.shift;
}

}  // namespace megamoe
