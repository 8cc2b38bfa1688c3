// The activation between the two GEMMs, one element at a time, in an order of f32 operations that every backend keeps:
// with the same inputs all of them give the same bits (docs/numerics.md).
#pragma once

#include <cmath>
#include <cstdint>

#include "megamoe/formats/float_bits.h"
#include "megamoe/host_device.h"
#include "megamoe/moe.h"

namespace megamoe {

// Constants of exp_f32, shared with its vector forms. Cody-Waite split of ln 2; polynomial of degree 5 for
// (e^r - 1 - r) / r^2 on |r| <= ln(2)/2, Cephes' expf (Moshier, public domain).
struct ExpConstants {
  static constexpr float kLowest = -104.0f;  // below, e^x rounds to 0
  static constexpr float kHighest = 89.0f;   // above, to infinity
  static constexpr float kLog2e = 1.44269504f;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, ties to even
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  // Highest power first. Single constants: device code can not index a constexpr array.
  static constexpr float kC5 = 1.9875691500e-4f;
  static constexpr float kC4 = 1.3981999507e-3f;
  static constexpr float kC3 = 8.3334519073e-3f;
  static constexpr float kC2 = 4.1665795894e-2f;
  static constexpr float kC1 = 1.6666665459e-1f;
  static constexpr float kC0 = 5.0000001201e-1f;
};

// e^x within 2 ulp of the exact value, also where the result is subnormal; NaN stays NaN. Not the C library's expf: its
// bits differ between libraries and from every GPU's.
MEGAMOE_HD inline float exp_f32(float x) {
  using C = ExpConstants;
  x = x < C::kLowest ? C::kLowest : x;
  x = x > C::kHighest ? C::kHighest : x;
  const float rounded = std::fma(x, C::kLog2e, C::kRound);
  const float n = rounded - C::kRound;
  const float r = std::fma(n, -C::kLn2Low, std::fma(n, -C::kLn2High, x));
  float p = std::fma(C::kC5, r, C::kC4);
  p = std::fma(p, r, C::kC3);
  p = std::fma(p, r, C::kC2);
  p = std::fma(p, r, C::kC1);
  p = std::fma(p, r, C::kC0);
  const float mantissa = std::fma(r * r, p, r) + 1.0f;
  // 2^n in two factors, each a normal number: n reaches -150 and 128.
  const std::int32_t exponent =
      static_cast<std::int32_t>(float_bits(rounded)) - static_cast<std::int32_t>(float_bits(C::kRound));
  const std::int32_t half = exponent >> 1;
  const float scale_a = float_from_bits(static_cast<std::uint32_t>(half + 127) << 23);
  const float scale_b = float_from_bits(static_cast<std::uint32_t>(exponent - half + 127) << 23);
  return mantissa * scale_a * scale_b;
}

MEGAMOE_HD inline float sigmoid(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

// Gate and up after alpha and bias; NaN in either comes out as NaN.
MEGAMOE_HD inline float activate(const Activation& activation, float gate, float up) {
  const float limit = activation.limit;
  gate = gate > limit ? limit : gate;
  up = up > limit ? limit : up;
  up = up < -limit ? -limit : up;
  if (activation.kind == Activation::Kind::kSwigluOai)
    return gate / (1.0f + exp_f32(-(activation.alpha * gate))) * (up + 1.0f);
  return gate / (1.0f + exp_f32(-gate)) * up;
}

}  // namespace megamoe
