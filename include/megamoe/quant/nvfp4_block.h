// Quantising one block of 16 values to NVFP4: the arithmetic of the recipes `rne` and `bridge`, for host and device.
//
// The order of the fp32 operations is the contract: every backend that follows it writes the same bytes. Each line is
// one IEEE operation, rounded to nearest even, subnormals kept (nvcc's defaults: -prec-div=true, -ftz=false).
//
// rne, for a global scale g > 0:
//   amax = max |x[i]|                    NaN if any x[i] is
//   sf   = E4M3(amax / (6 * g))          nearest even, saturating at 448; NaN gives 0x7F
//   step = float(sf) * g
//   code = E2M1(x[i] / step)             nearest, ties to the even code, saturating at 6
// A block whose step is 0 or NaN has codes 0 (+0). So a NaN element turns its block into NaNs (sf = 0x7F): it surfaces.
// An infinite element makes a computed g infinite, and everything under that g dequantises to NaN (e2m1 * (e4m3 * Inf)
// with e4m3 = 0 or NaN); under a finite static g it saturates at ±2688 * g like every value out of range.
//
// bridge: divides by g first, then by the block scale, rounds twice, and does not saturate. It exists to reproduce
// outputs of earlier tools; on Gaussian data its squared error is about 32 % above that of rne.
//   y    = x[i] / g
//   amax = max |y|                       NaN if any y is
//   sf   = 0 when amax < 6 * 2^-9, else E4M3(amax / 6), nearest even, NaN (0x7F) above 464
//   z    = y / float(sf);  h = nearest-even integer of 2 * min(|z|, 6);  magnitude code =
//   {0,1,2,3,4,4,5,5,6,6,6,7,7}[h] sign bit set when z < 0 (so -0.0 loses its sign, a small negative value becomes code
//   8); sf of 0 or NaN: codes 0
#pragma once

#include <cstdint>

#include "megamoe/formats/nvfp4.h"
#include "megamoe/host_device.h"

namespace megamoe {

// max |x[i]| over n values; NaN if any of them is. Magnitudes order like their bits, with NaN above Inf.
MEGAMOE_HD constexpr float nan_or_amax(const float* x, std::int64_t n) {
  std::int32_t amax = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto bits = static_cast<std::int32_t>(float_bits(x[i]) & ~kFloatSignBit);
    amax = bits > amax ? bits : amax;
  }
  return float_from_bits(static_cast<std::uint32_t>(amax));
}

// The global scale that makes `amax` the largest value there is at block scale `scale_max`; at least the smallest
// normal float. amax is not NaN.
MEGAMOE_HD constexpr float nvfp4_computed_global_scale(float amax, float scale_max) {
  if (!(amax > 0.0f)) return 1.0f;
  const float scale = amax / (kE2m1Max * scale_max);
  return scale > kFloatMinNormal ? scale : kFloatMinNormal;
}

// bridge's, which has other limits and lets a NaN through.
MEGAMOE_HD constexpr float nvfp4_bridge_global_scale(float amax) { return (amax < 1e-8f ? 1e-8f : amax) / kNvfp4Max; }

// codes[8] = the packed E2M1(x[i] / step) of a block, for step > 0; zeros for a step of 0 or NaN.
MEGAMOE_HD constexpr void nvfp4_encode_block(const float* x, float step, std::uint8_t* codes) {
  const bool representable = step > 0.0f;
  std::uint8_t code[kNvfp4Block] = {};
  for (int i = 0; i < kNvfp4Block; ++i) code[i] = e2m1_from_float(x[i] / step);
  for (int i = 0; i < kNvfp4BlockBytes; ++i)
    codes[i] = representable ? nvfp4_pack(code[2 * i], code[2 * i + 1]) : std::uint8_t{0};
}

// Recipe rne. x[16], codes[8] out; returns sf.
MEGAMOE_HD constexpr std::uint8_t nvfp4_block_rne(const float* x, float global_scale, std::uint8_t* codes) {
  const float amax = nan_or_amax(x, kNvfp4Block);
  const std::uint8_t sf = e4m3_from_float(amax / (kE2m1Max * global_scale));
  nvfp4_encode_block(x, nvfp4_step(sf, global_scale), codes);
  return sf;
}

// Recipe bridge's nearest code: 2|z| is rounded to an integer first, the integer is then mapped to a code.
MEGAMOE_HD constexpr std::uint8_t bridge_code(float z) {
  const float a = float_abs(z);
  const float doubled = 2.0f * (a < kE2m1Max ? a : kE2m1Max);
  const float h = (doubled + 0x1p23f) - 0x1p23f;  // floats in [2^23, 2^24) have steps of 1
  const unsigned magnitude = static_cast<unsigned>(h >= 1.0f) + static_cast<unsigned>(h >= 2.0f) +
                             static_cast<unsigned>(h >= 3.0f) + static_cast<unsigned>(h >= 4.0f) +
                             static_cast<unsigned>(h >= 6.0f) + static_cast<unsigned>(h >= 8.0f) +
                             static_cast<unsigned>(h >= 11.0f);
  return static_cast<std::uint8_t>(magnitude | (z < 0.0f ? kE2m1SignBit : 0u));
}

// Recipe bridge. x[16], codes[8] out; returns sf.
MEGAMOE_HD constexpr std::uint8_t nvfp4_block_bridge(const float* x, float global_scale, std::uint8_t* codes) {
  float y[kNvfp4Block] = {};
  for (int i = 0; i < kNvfp4Block; ++i) y[i] = x[i] / global_scale;
  const float amax = nan_or_amax(y, kNvfp4Block);
  const bool vanishes = amax < kE2m1Max * kE4m3MinSubnormal;
  const std::uint8_t sf = vanishes ? std::uint8_t{0} : e4m3_from_float_nan_above_max(amax / kE2m1Max);
  const bool representable = sf != 0 && sf != kE4m3Nan;
  const float scale = e4m3_to_float(sf);
  std::uint8_t code[kNvfp4Block] = {};
  for (int i = 0; i < kNvfp4Block; ++i) code[i] = bridge_code(y[i] / scale);
  for (int i = 0; i < kNvfp4BlockBytes; ++i)
    codes[i] = representable ? nvfp4_pack(code[2 * i], code[2 * i + 1]) : std::uint8_t{0};
  return sf;
}

}  // namespace megamoe
