// The formats that are exponent and mantissa arithmetic alone, over all of their codes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e8m0.h"
#include "megamoe/formats/fp16.h"

namespace megamoe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::uint16_t half_word(int bits) { return static_cast<std::uint16_t>(bits); }

TEST(bf16, all_65536_values_round_trip) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_float(half_word(bits));
    const bool nan = (bits & 0x7FFF) > 0x7F80;
    ASSERT_EQ(std::isnan(value), nan) << bits;
    ASSERT_EQ(bf16_from_float(value), nan ? bits | 0x40 : bits);
  }
  EXPECT_EQ(bf16_to_float(0x3F80), 1.0f);
  EXPECT_EQ(bf16_to_float(0xC049), -3.140625f);
}

TEST(bf16, rounds_every_midpoint_to_even) {
  for (int bits = 0; bits < 0x7F80; ++bits) {  // up to the step from the largest finite value to Inf
    const float tie = float_from_bits((static_cast<std::uint32_t>(bits) << 16) | 0x8000u);
    const int even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(bf16_from_float(tie), even);
    ASSERT_EQ(bf16_from_float(-tie), even | 0x8000);
    ASSERT_EQ(bf16_from_float(std::nextafterf(tie, 0.0f)), bits);
    ASSERT_EQ(bf16_from_float(std::nextafterf(tie, kInf)), bits + 1);
  }
  EXPECT_EQ(bf16_from_float(kInf), 0x7F80);
  EXPECT_EQ(bf16_from_float(-kInf), 0xFF80);
}

TEST(bf16, nan_with_only_low_payload_bits_stays_nan) {
  EXPECT_EQ(bf16_from_float(float_from_bits(0x7F800001u)), 0x7FC0);
  EXPECT_EQ(bf16_from_float(float_from_bits(0xFFFFFFFFu)), 0xFFFF);
}

// The value of a finite positive binary16 by the definition of the format.
double fp16_magnitude(int bits) {
  const int exponent = bits >> 10;
  const int mantissa = bits & 0x3FF;
  return exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(fp16, decodes_and_round_trips_all_65536_values) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = fp16_to_float(half_word(bits));
    const int magnitude = bits & 0x7FFF;
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
    if (magnitude > 0x7C00) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_EQ(fp16_from_float(value), bits | 0x200);
      continue;
    }
    if (magnitude == 0x7C00)
      ASSERT_TRUE(std::isinf(value)) << bits;
    else
      ASSERT_EQ(std::fabs(static_cast<double>(value)), fp16_magnitude(magnitude)) << bits;
    ASSERT_EQ(fp16_from_float(value), bits);
  }
}

TEST(fp16, rounds_every_midpoint_to_even) {
  for (int bits = 0; bits < 0x7C00; ++bits) {
    const double next = bits + 1 == 0x7C00 ? 65536.0 : fp16_magnitude(bits + 1);
    const auto tie = static_cast<float>((fp16_magnitude(bits) + next) / 2);
    const int even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(fp16_from_float(tie), even) << tie;
    ASSERT_EQ(fp16_from_float(-tie), even | 0x8000) << tie;
    ASSERT_EQ(fp16_from_float(std::nextafterf(tie, 0.0f)), bits) << tie;
    ASSERT_EQ(fp16_from_float(std::nextafterf(tie, kInf)), bits + 1) << tie;
  }
  EXPECT_EQ(fp16_from_float(1e30f), 0x7C00);
  EXPECT_EQ(fp16_from_float(-kInf), 0xFC00);
  EXPECT_EQ(fp16_from_float(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(e8m0, decodes_all_256_codes) {
  for (int code = 0; code < 255; ++code) {
    const float value = e8m0_to_float(static_cast<std::uint8_t>(code));
    ASSERT_EQ(static_cast<double>(value), std::ldexp(1.0, code - kE8m0Bias)) << code;
    ASSERT_EQ(e8m0_from_float_down(value), code);
    if (code == 0) continue;
    ASSERT_EQ(e8m0_from_float_down(std::nextafterf(value, 0.0f)), code - 1);
    ASSERT_EQ(e8m0_from_float_down(1.75f * value), code);
  }
  EXPECT_TRUE(std::isnan(e8m0_to_float(kE8m0Nan)));
}

TEST(e8m0, refuses_what_is_not_a_positive_number) {
  for (const float value : {-1.0f, kInf, -kInf, kNan, -kNan}) EXPECT_EQ(e8m0_from_float_down(value), kE8m0Nan) << value;
  EXPECT_EQ(e8m0_from_float_down(0.0f), 0);
  EXPECT_EQ(e8m0_from_float_down(-0.0f), 0);
}

}  // namespace
}  // namespace megamoe
