#include "oracle/numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace oracle {
namespace {

constexpr double kMagnitudes[8] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};

// Rounds to `bits` significant bits, with steps no finer than min_step. nearbyint in the default mode takes ties to
// even, and an even multiple of the step is an even code.
double round_to_bits(double value, int bits, double min_step) {
  if (value == 0.0 || std::isnan(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);  // |value| in [2^(exponent-1), 2^exponent)
  const double step = std::max(std::ldexp(1.0, exponent - bits), min_step);
  return std::nearbyint(value / step) * step;
}

}  // namespace

double e2m1(unsigned code) {
  const double magnitude = kMagnitudes[code & 7];
  return (code & 8) != 0 ? -magnitude : magnitude;
}

double e4m3(unsigned code) {
  const unsigned exponent = (code >> 3) & 15;
  const unsigned mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude =
      exponent == 0 ? mantissa * 0x1p-9 : std::ldexp(8.0 + mantissa, static_cast<int>(exponent) - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

double bf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0.0f;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

double round_e2m1(double value) {
  if (std::isnan(value)) return value;
  const double magnitude = std::fabs(value);
  int best = 0;
  for (int i = 1; i < 8; ++i) {
    const double closer = std::fabs(magnitude - kMagnitudes[best]) - std::fabs(magnitude - kMagnitudes[i]);
    if (closer > 0.0 || (closer == 0.0 && i % 2 == 0)) best = i;
  }
  return std::copysign(kMagnitudes[best], value);
}

double round_e4m3(double value) {
  if (std::fabs(value) >= 448.0) return std::copysign(448.0, value);
  return round_to_bits(value, 4, 0x1p-9);
}

double round_bf16(double value) { return round_to_bits(value, 8, 0x1p-133); }

double round_int8(double value) {
  if (std::fabs(value) >= 127.0) return std::copysign(127.0, value);
  return std::nearbyint(value);
}

}  // namespace oracle
