#include "megamoe/formats/e2m1.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace megamoe {
namespace {

// The format's definition, written out once more: the oracle of this file does not use the code under test.
constexpr std::array<double, 8> kMagnitudes{0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};

// Nearest magnitude by exact distances (a double holds the difference of a float and a magnitude exactly, for floats
// from 2^-28 to 2^20), ties to the even code.
int nearest_magnitude(double a) {
  int best = 0;
  for (int code = 1; code < 8; ++code) {
    const double here = std::fabs(a - kMagnitudes[static_cast<std::size_t>(code)]);
    const double there = std::fabs(a - kMagnitudes[static_cast<std::size_t>(best)]);
    if (here < there || (here == there && code % 2 == 0)) best = code;
  }
  return best;
}

TEST(e2m1, decodes_all_16_codes) {
  for (int code = 0; code < 16; ++code) {
    const double magnitude = kMagnitudes[static_cast<std::size_t>(code % 8)];
    const float value = e2m1_to_float(static_cast<std::uint8_t>(code));
    EXPECT_EQ(static_cast<double>(value), code < 8 ? magnitude : -magnitude) << code;
    EXPECT_EQ(std::signbit(value), code >= 8) << code;  // 0x8 is -0.0
    EXPECT_EQ(e2m1_doubled(static_cast<std::uint8_t>(code)), static_cast<int>(2.0f * value)) << code;
    EXPECT_EQ(e2m1_from_float(value), code);
  }
}

TEST(e2m1, is_usable_in_constant_expressions) {
  static_assert(e2m1_to_float(0xF) == -6.0f);
  static_assert(e2m1_from_float(2.5f) == 4 && e2m1_from_float(-3.5f) == 0xE);
}

TEST(e2m1, rounds_ties_to_even_code) {
  const std::array<float, 7> midpoints{0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const std::array<int, 7> even{0, 2, 2, 4, 4, 6, 6};
  for (int i = 0; i < 7; ++i) {
    const float tie = midpoints[static_cast<std::size_t>(i)];
    for (const int sign : {0, 8}) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      EXPECT_EQ(e2m1_from_float(s * tie), even[static_cast<std::size_t>(i)] + sign) << tie;
      EXPECT_EQ(e2m1_from_float(s * std::nextafterf(tie, 0.0f)), i + sign) << tie;
      EXPECT_EQ(e2m1_from_float(s * std::nextafterf(tie, 9.0f)), i + 1 + sign) << tie;
    }
  }
}

TEST(e2m1, does_not_round_twice) {
  EXPECT_EQ(e2m1_from_float(2.6f), 5);   // 3; rounding 2 * 2.6 to the integer 5 first would end at 2
  EXPECT_EQ(e2m1_from_float(3.6f), 6);   // 4
  EXPECT_EQ(e2m1_from_float(5.25f), 7);  // 6
}

TEST(e2m1, nearest_for_every_float_of_a_fine_grid) {
  for (int i = 0; i <= 8 * 4096; ++i) {
    const float a = static_cast<float>(i) / 4096.0f;
    ASSERT_EQ(e2m1_from_float(a), nearest_magnitude(a)) << a;
    ASSERT_EQ(e2m1_from_float(-a), nearest_magnitude(a) + 8) << a;
    ASSERT_EQ(e2m1_rounded_magnitude(-a), kMagnitudes[static_cast<std::size_t>(nearest_magnitude(a))]) << a;
  }
}

TEST(e2m1, saturates_and_keeps_the_sign) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float big : {6.0f, 6.5f, 1e30f, std::numeric_limits<float>::max(), kInf}) {
    EXPECT_EQ(e2m1_from_float(big), 0x7);
    EXPECT_EQ(e2m1_from_float(-big), 0xF);
  }
  EXPECT_EQ(e2m1_from_float(0.0f), 0x0);
  EXPECT_EQ(e2m1_from_float(-0.0f), 0x8);
  EXPECT_EQ(e2m1_from_float(std::numeric_limits<float>::denorm_min()), 0x0);
  EXPECT_EQ(e2m1_from_float(-std::numeric_limits<float>::denorm_min()), 0x8);
}

TEST(e2m1, nan_gives_zero) {
  EXPECT_EQ(e2m1_from_float(std::numeric_limits<float>::quiet_NaN()), 0);
  EXPECT_EQ(e2m1_from_float(-std::numeric_limits<float>::quiet_NaN()), 0);
}

}  // namespace
}  // namespace megamoe
