#include "moe/activation_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace megamoe {
namespace {

// Distance to the exact value in units of the last place there (subnormal places below the normal range).
double ulps_off(float got, double exact) {
  const float rounded = static_cast<float>(exact);
  const double place = static_cast<double>(std::nextafter(rounded, std::numeric_limits<float>::infinity())) - rounded;
  return std::abs(static_cast<double>(got) - exact) / place;
}

TEST(activation_math, exp_is_within_two_ulp) {
  double worst = 0.0;
  float at = 0.0f;
  for (float x = -103.9f; x < 88.7f; x += 0.000431f) {
    const double off = ulps_off(exp_f32(x), std::exp(static_cast<double>(x)));
    if (off > worst) worst = off, at = x;
  }
  EXPECT_LE(worst, 2.0) << "at " << at;
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(activation_math, exp_at_the_ends) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-kInf), 0.0f);
  EXPECT_EQ(exp_f32(-200.0f), 0.0f);
  EXPECT_EQ(exp_f32(kInf), kInf);
  EXPECT_EQ(exp_f32(100.0f), kInf);
  EXPECT_TRUE(std::isnan(exp_f32(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_GT(exp_f32(-103.0f), 0.0f);
}

TEST(activation_math, gate_is_clamped_above_only_and_up_on_both_sides) {
  const Activation activation{.limit = 2.0f};
  const auto silu = [](double g) { return g / (1.0 + std::exp(-g)); };
  EXPECT_NEAR(activate(activation, 5.0f, 1.5f), silu(2.0) * 1.5, 1e-6);
  EXPECT_NEAR(activate(activation, -5.0f, 1.5f), silu(-5.0) * 1.5, 1e-7);
  EXPECT_NEAR(activate(activation, 1.0f, 7.0f), silu(1.0) * 2.0, 1e-6);
  EXPECT_NEAR(activate(activation, 1.0f, -7.0f), silu(1.0) * -2.0, 1e-6);
}

TEST(activation_math, oai_variant_adds_one_to_up) {
  const Activation activation{.kind = Activation::Kind::kSwigluOai, .limit = 7.0f};
  EXPECT_NEAR(activate(activation, 1.0f, 0.0f), 1.0 / (1.0 + std::exp(-1.702)), 1e-6);
  EXPECT_NEAR(activate(activation, 9.0f, -9.0f), 7.0 / (1.0 + std::exp(-1.702 * 7.0)) * -6.0, 1e-5);
}

TEST(activation_math, nan_comes_out) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float limit : {2.0f, std::numeric_limits<float>::infinity()}) {
    EXPECT_TRUE(std::isnan(activate({.limit = limit}, nan, 1.0f)));
    EXPECT_TRUE(std::isnan(activate({.limit = limit}, 1.0f, nan)));
  }
}

}  // namespace
}  // namespace megamoe
