// Recipes that choose a block's scale by its squared error.
//
// The error of a block under a scale sf, in units of the global scale g squared, in fp32 and in this order:
//   q[i]  = x[i] / (float(sf) * g)
//   sum  += (|q[i]| - |value of E2M1(q[i])|)^2     i = 0 .. 15
//   error = (float(sf) * float(sf)) * sum
// so that it neither underflows nor overflows with the magnitude of the data. sf = 0 (all codes 0) counts as the scale
// 1 with codes 0: error = sum of (x[i] / g)^2.
#pragma once

#include <cstdint>

namespace megamoe {

// four_six: the maximum of the block maps to 6, sf = E4M3(amax / (6 g)), or to 4, sf = E4M3(amax / (4 g)). The smaller
// error wins, 6 on a tie. NaN as in nvfp4_block_rne. x[16], codes[8] out; returns sf.
std::uint8_t nvfp4_block_four_six(const float* x, float global_scale, std::uint8_t* codes) noexcept;

// mse: every E4M3 from E4M3(0.55 r) to E4M3(1.65 r), r = amax / (6 g), at most 448. That spans the maximum mapping
// to 10.9 (saturating hard) down to 3.6; it holds both candidates of four_six. The smallest error wins, the larger
// scale on a tie.
std::uint8_t nvfp4_block_mse(const float* x, float global_scale, std::uint8_t* codes) noexcept;

}  // namespace megamoe
