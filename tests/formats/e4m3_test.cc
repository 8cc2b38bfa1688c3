#include "megamoe/formats/e4m3.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace megamoe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The value of a positive finite code by the definition of the format.
double magnitude_of(int code) {
  const int exponent = code / 8;
  const int mantissa = code % 8;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

std::uint8_t byte(int code) { return static_cast<std::uint8_t>(code); }

TEST(e4m3, decodes_all_256_codes) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_float(byte(code));
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
    EXPECT_EQ(e4m3_is_nan(byte(code)), code % 128 == 127);
    if (code % 128 == 127)
      EXPECT_TRUE(std::isnan(value)) << code;
    else
      EXPECT_EQ(std::fabs(static_cast<double>(value)), magnitude_of(code % 128)) << code;
  }
  EXPECT_EQ(e4m3_to_float(0x38), 1.0f);
  EXPECT_EQ(e4m3_to_float(kE4m3MaxCode), kE4m3Max);
  EXPECT_EQ(e4m3_to_float(0x01), kE4m3MinSubnormal);
}

TEST(e4m3, all_codes_round_trip) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_float(byte(code));
    EXPECT_EQ(e4m3_from_float_nan_above_max(value), code);
    EXPECT_EQ(e4m3_from_float(value), code == 0xFF ? 0x7F : code);
  }
}

TEST(e4m3, rounds_every_midpoint_to_even) {
  for (int code = 0; code < kE4m3MaxCode; ++code) {
    const auto tie = static_cast<float>((magnitude_of(code) + magnitude_of(code + 1)) / 2);
    const int even = code % 2 == 0 ? code : code + 1;
    for (const int sign : {0, 128}) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      for (const auto convert : {e4m3_from_float, e4m3_from_float_nan_above_max}) {
        EXPECT_EQ(convert(s * tie), even + sign) << tie;
        EXPECT_EQ(convert(s * std::nextafterf(tie, 0.0f)), code + sign) << tie;
        EXPECT_EQ(convert(s * std::nextafterf(tie, kInf)), code + 1 + sign) << tie;
      }
    }
  }
}

TEST(e4m3, saturates) {
  for (const float big : {448.0f, 464.0f, std::nextafterf(464.0f, kInf), 479.0f, 480.0f, 1e30f, kInf}) {
    EXPECT_EQ(e4m3_from_float(big), 0x7E) << big;
    EXPECT_EQ(e4m3_from_float(-big), 0xFE) << big;
  }
}

TEST(e4m3, without_saturation_what_rounds_above_448_is_nan) {
  EXPECT_EQ(e4m3_from_float_nan_above_max(464.0f), 0x7E);  // a tie, to the even 448
  EXPECT_EQ(e4m3_from_float_nan_above_max(-464.0f), 0xFE);
  for (const float big : {std::nextafterf(464.0f, kInf), 479.0f, 480.0f, 496.0f, 1e30f, kInf}) {
    EXPECT_EQ(e4m3_from_float_nan_above_max(big), 0x7F) << big;
    EXPECT_EQ(e4m3_from_float_nan_above_max(-big), 0xFF) << big;
  }
}

TEST(e4m3, nan_stays_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(e4m3_from_float(nan), kE4m3Nan);
  EXPECT_EQ(e4m3_from_float(-nan), kE4m3Nan);
  EXPECT_EQ(e4m3_from_float_nan_above_max(nan), 0x7F);
  EXPECT_EQ(e4m3_from_float_nan_above_max(-nan), 0xFF);
}

TEST(e4m3, underflows_at_half_the_smallest) {
  EXPECT_EQ(e4m3_from_float(0x1p-10f), 0x00);  // a tie, to the even 0
  EXPECT_EQ(e4m3_from_float(std::nextafterf(0x1p-10f, 1.0f)), 0x01);
  EXPECT_EQ(e4m3_from_float(std::numeric_limits<float>::denorm_min()), 0x00);
  EXPECT_EQ(e4m3_from_float(-0.0f), 0x80);
}

TEST(e4m3, is_usable_in_constant_expressions) {
  static_assert(e4m3_from_float(1.0f) == 0x38 && e4m3_to_float(0x7E) == 448.0f);
  static_assert(e4m3_from_float_nan_above_max(500.0f) == 0x7F);
}

}  // namespace
}  // namespace megamoe
