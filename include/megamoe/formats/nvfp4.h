// NVFP4: value = e2m1(code) * e4m3(sf) * global_scale.
//
// One E4M3 block scale (sf) serves 16 consecutive elements along K, one fp32 global scale a whole tensor, or a row of
// activations. Two codes share a byte: the low nibble is the even K index, the high nibble the odd one (ModelOpt and
// compressed-tensors alike). Canonical arrays of a [rows, k] matrix: codes [rows, k/2], sf [rows, k/16], row-major.
#pragma once

#include <cstdint>

#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "megamoe/host_device.h"

namespace megamoe {

inline constexpr int kNvfp4Block = 16;                    // elements of one block scale
inline constexpr int kNvfp4BlockBytes = kNvfp4Block / 2;  // packed codes of one block
inline constexpr float kNvfp4ScaleMax = kE4m3Max;         // 448
inline constexpr float kNvfp4Max = kE2m1Max * kE4m3Max;   // 2688: the largest value at global_scale 1

MEGAMOE_HD constexpr std::uint8_t nvfp4_pack(std::uint8_t even_k, std::uint8_t odd_k) {
  return static_cast<std::uint8_t>((even_k & 0xFu) | (odd_k << 4));
}

MEGAMOE_HD constexpr std::uint8_t nvfp4_even_k(std::uint8_t packed) { return packed & 0xFu; }
MEGAMOE_HD constexpr std::uint8_t nvfp4_odd_k(std::uint8_t packed) { return static_cast<std::uint8_t>(packed >> 4); }

// What every value of a block is multiplied with. Formed first, then multiplied with the code: another order of these
// two fp32 products differs in the last bit.
MEGAMOE_HD constexpr float nvfp4_step(std::uint8_t sf, float global_scale) { return e4m3_to_float(sf) * global_scale; }

MEGAMOE_HD constexpr float nvfp4_value(std::uint8_t code, std::uint8_t sf, float global_scale) {
  return e2m1_to_float(code) * nvfp4_step(sf, global_scale);
}

}  // namespace megamoe
