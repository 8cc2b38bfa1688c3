// The activation of several pairs of a thread at a time, in the epilogue of GEMM 1. Its results have the bits of
// activate() (moe/activation_math.h); how they are computed is what this file is about, for the epilogue is paid in
// full.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backends/cuda/sm90/ptx.cuh"
#include "moe/activation_math.h"

namespace megamoe::sm90 {

template <int Count>
__device__ __forceinline__ void clamp_pairs(float limit, float (&gate)[Count], float (&up)[Count]) {
  if (!(limit < __int_as_float(0x7F800000))) return;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    gate[i] = ptx::min_or_nan(gate[i], limit);
    up[i] = ptx::max_or_nan(ptx::min_or_nan(up[i], limit), -limit);
  }
}

// activate() of the i-th pair to h[i]. Selected by comparison: registers have no computed index.
template <int Count>
__device__ __forceinline__ void activate_one(const Activation& activation, int i, const float (&gate)[Count],
                                             const float (&up)[Count], float (&h)[Count]) {
  float g = 0, u = 0;
#pragma unroll
  for (int j = 0; j < Count; ++j) {
    if (i == j) g = gate[j], u = up[j];
  }
  g = activate(activation, g, u);
#pragma unroll
  for (int j = 0; j < Count; ++j) {
    if (i == j) h[j] = g;
  }
}

// activate() of moe/activation_math.h for several pairs: the same operations wherever they can matter. Where every gate
// of the warp is of a common size, two things can not: exp's clamps and its second factor, and what the device's own
// division does for numbers near the ends of the range. Without them it is half as many instructions, and without a
// branch a quotient, which would keep them from overlapping. All lanes of a warp; `matters(i)` says whose results do.
// kSilu: it is known not to be kSwigluOai, and no gate is -0. Then the result is a function of one float, of which a
// test compares all (activate_test.cc): small gates need no care, and the quotient two operations less.
template <bool kSilu, int Count, class Matters>
__device__ __forceinline__ void activate_all(const Activation& activation, float (&gate)[Count], float (&up)[Count],
                                             const Matters& matters) {
  using C = ExpConstants;
  const bool oai = !kSilu && activation.kind == Activation::Kind::kSwigluOai;
  clamp_pairs(activation.limit, gate, up);
  float slope = 1.0f;  // of the sigmoid's argument
  if (oai) slope = activation.alpha;
  float least = 1.0f, most = 0.0f;  // NaN if any is
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (!matters(i)) continue;
    if (!kSilu) least = ptx::min_or_nan(least, fabsf(gate[i]));
    most = ptx::max_or_nan(most, fabsf(gate[i]));
  }
  // With such a slope gates are below 2^56 as well.
  const bool common = least >= 0x1p-60f && most * fabsf(slope) <= 40.0f && fabsf(slope) >= 0x1p-50f;
  if (!__all_sync(0xFFFFFFFFu, common)) {
#pragma unroll 1
    for (int i = 0; i < Count; ++i) {
      activate_one(activation, i, gate, up, gate);
    }
    return;
  }
  if (oai) {
#pragma unroll
    for (int i = 0; i < Count; ++i) up[i] += 1.0f;
  }
  // A step for all pairs, then the next: their operations wait for each other only within a pair.
  float power[Count], r[Count], e[Count], inverse[Count];
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const float x = -(slope * gate[i]);  // exact where slope is 1
    power[i] = __fmaf_rn(x, C::kLog2e, C::kRound);
    const float n = power[i] - C::kRound;
    r[i] = __fmaf_rn(n, -C::kLn2Low, __fmaf_rn(n, -C::kLn2High, x));
    e[i] = __fmaf_rn(C::kC5, r[i], C::kC4);
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) e[i] = __fmaf_rn(e[i], r[i], C::kC3);
#pragma unroll
  for (int i = 0; i < Count; ++i) e[i] = __fmaf_rn(e[i], r[i], C::kC2);
#pragma unroll
  for (int i = 0; i < Count; ++i) e[i] = __fmaf_rn(e[i], r[i], C::kC1);
#pragma unroll
  for (int i = 0; i < Count; ++i) e[i] = __fmaf_rn(e[i], r[i], C::kC0);
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const float mantissa = __fmaf_rn(r[i] * r[i], e[i], r[i]) + 1.0f;
    // Times 2^n, |n| < 60: the low bits of `power` are n, its high ones fall off.
    e[i] = 1.0f + __uint_as_float(__float_as_uint(mantissa) + (__float_as_uint(power[i]) << 23));
    inverse[i] = ptx::reciprocal(e[i]);
  }
  // The device's own sequence for IEEE division (nvcc -prec-div=true), which is exact for 1 <= divisor < 2^60; of kSilu
  // without the better inverse in front.
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (!kSilu) inverse[i] = __fmaf_rn(inverse[i], __fmaf_rn(-e[i], inverse[i], 1.0f), inverse[i]);
    r[i] = gate[i] * inverse[i];
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) r[i] = __fmaf_rn(inverse[i], __fmaf_rn(-e[i], r[i], gate[i]), r[i]);
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    r[i] = __fmaf_rn(inverse[i], __fmaf_rn(-e[i], r[i], gate[i]), r[i]);
    gate[i] = r[i] * up[i];
  }
}

// ---- What is rounded to bf16 anyway ---------------------------------------------------------------------------------
//
// Then an h a few units of its last place off is as good, unless a number halfway between two of bf16 lies that near:
// the device's own approximations take 7 operations where activate() takes 22, and the few that may have come out
// wrong are found by their bits and computed again. (Ziv, ACM TOMS 17(3), 1991, rounds elementary functions that way.)

// silu(gate) for gates of at least kLeastGate, within kMostUnits * 2^-24 of activate()'s; the same bits where that is
// subnormal. For a GPU's own approximations none but wide bounds are published, so activate_test.cc compares every
// float: an H100's are within 10.6 units. Below kLeastGate the rounding of ex2's argument counts too much.
inline constexpr float kLeastGate = -8.0f;
inline constexpr int kMostUnits = 12;

__device__ __forceinline__ float approximate_silu(float gate) {
  return gate * ptx::reciprocal(1.0f + ptx::exp2(gate * -ExpConstants::kLog2e));
}

// How far the low halves of two words are beyond where halfway begins to be too near, modulo 2^16: at most kTooNear
// where it is. That is kMostUnits of h's last place, and one more for two roundings of products with up.
inline constexpr std::uint32_t kTooNear = 2 * (kMostUnits + 1);
__device__ __forceinline__ std::uint32_t beyond_halfway(float low, float high) {
  constexpr std::uint32_t kBegin = 0x8000 - (kMostUnits + 1);
  constexpr std::uint32_t kMinus = 0x10000 - kBegin;
  return __vadd2(__byte_perm(__float_as_uint(low), __float_as_uint(high), 0x5410), kMinus << 16 | kMinus);
}

// SiLU's h, for which rounded to bf16 the bits are those of activate()'s h so rounded. No gate is -0. All lanes of the
// warp. Into `gate`.
template <int Count>
__device__ __forceinline__ void activate_for_bf16(const Activation& activation, float (&gate)[Count],
                                                  float (&up)[Count]) {
  static_assert(Count % 2 == 0);
  clamp_pairs(activation.limit, gate, up);
  float h[Count];
  float least = 0.0f;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    h[i] = approximate_silu(gate[i]) * up[i];
    least = fminf(least, gate[i]);
  }
  std::uint32_t nearest = 0xFFFFFFFF;
#pragma unroll
  for (int i = 0; i < Count; i += 2) nearest = __vminu2(nearest, beyond_halfway(h[i], h[i + 1]));
  const bool sure = min(nearest & 0xFFFF, nearest >> 16) > kTooNear && least >= kLeastGate;
  if (!__all_sync(0xFFFFFFFFu, sure)) {
    std::uint32_t unsure = 0;
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      const bool again = (beyond_halfway(h[i], 0.0f) & 0xFFFF) <= kTooNear || gate[i] < kLeastGate;
      unsure |= static_cast<std::uint32_t>(again) << i;
    }
#pragma unroll 1
    for (unsure = __reduce_or_sync(0xFFFFFFFFu, unsure); unsure != 0; unsure &= unsure - 1)
      activate_one(activation, __ffs(static_cast<int>(unsure)) - 1, gate, up, h);
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) gate[i] = h[i];
}

}  // namespace megamoe::sm90
