// NaN, Inf, zeros and the ends of the ranges, in every lane.
#include <gtest/gtest.h>

#include <array>
#include <cfloat>
#include <cmath>
#include <limits>
#include <span>

#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::array kAllRecipes{QuantRecipe::kRne, QuantRecipe::kBridge, QuantRecipe::kFourSix, QuantRecipe::kMse};

using Block = std::array<float, kNvfp4Block>;

struct Quantized {
  std::uint8_t sf = 0xEE;
  std::array<std::uint8_t, kNvfp4BlockBytes> codes{};
  float global_scale = 0;

  Block values() const {
    Block out;
    dequantize_nvfp4_row(codes.data(), &sf, global_scale, out);
    return out;
  }
  int code(int lane) const {
    const std::uint8_t packed = codes[static_cast<std::size_t>(lane / 2)];
    return lane % 2 == 0 ? nvfp4_even_k(packed) : nvfp4_odd_k(packed);
  }
};

Quantized quantize(QuantRecipe recipe, const Block& x, float global_scale) {
  Quantized q;
  q.global_scale = global_scale;
  q.codes.fill(0xEE);
  quantize_nvfp4_row(recipe, x, global_scale, q.codes.data(), &q.sf);
  return q;
}

Block ramp() {
  Block x;
  for (int i = 0; i < kNvfp4Block; ++i) x[static_cast<std::size_t>(i)] = 0.25f * static_cast<float>(i - 7);
  return x;
}

constexpr std::array<std::uint8_t, kNvfp4BlockBytes> kZeroCodes{};

TEST(nvfp4_block, nan_in_any_lane_poisons_the_block_in_every_recipe) {
  for (const QuantRecipe recipe : kAllRecipes)
    for (int lane = 0; lane < kNvfp4Block; ++lane)
      for (const float nan : {kNan, -kNan}) {
        Block x = ramp();
        x[static_cast<std::size_t>(lane)] = nan;
        const Quantized q = quantize(recipe, x, 0.001f);
        EXPECT_EQ(q.sf, kE4m3Nan) << quant_recipe_name(recipe) << " lane " << lane;
        EXPECT_EQ(q.codes, kZeroCodes);
        for (const float value : q.values()) EXPECT_TRUE(std::isnan(value));
      }
}

TEST(nvfp4_block, inf_in_any_lane_saturates_under_a_static_global) {
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kFourSix, QuantRecipe::kMse})
    for (int lane = 0; lane < kNvfp4Block; ++lane)
      for (const float inf : {kInf, -kInf}) {
        Block x = ramp();
        x[static_cast<std::size_t>(lane)] = inf;
        const Quantized q = quantize(recipe, x, 0.001f);
        EXPECT_EQ(q.sf, kE4m3MaxCode) << quant_recipe_name(recipe);
        EXPECT_EQ(q.values()[static_cast<std::size_t>(lane)], std::copysign(6.0f * (448.0f * 0.001f), inf));
      }
}

TEST(nvfp4_block, inf_surfaces_as_nan_under_a_computed_global) {
  for (const QuantRecipe recipe : kAllRecipes)
    for (int lane = 0; lane < kNvfp4Block; ++lane) {
      std::array<float, 2 * kNvfp4Block> row{};
      row.fill(1.5f);
      row[static_cast<std::size_t>(kNvfp4Block + lane)] = -kInf;
      const float global_scale = nvfp4_global_scale(recipe, nvfp4_amax(recipe, row));
      EXPECT_EQ(global_scale, kInf);
      std::array<std::uint8_t, 2 * kNvfp4BlockBytes> codes;
      std::array<std::uint8_t, 2> sf;
      quantize_nvfp4_row(recipe, row, global_scale, codes.data(), sf.data());
      EXPECT_EQ(sf, (std::array<std::uint8_t, 2>{0, kE4m3Nan})) << quant_recipe_name(recipe);
      dequantize_nvfp4_row(codes.data(), sf.data(), global_scale, row);
      for (const float value : row) EXPECT_TRUE(std::isnan(value)) << quant_recipe_name(recipe);
    }
}

TEST(nvfp4_block, zero_block_has_zero_scale_and_codes) {
  for (const QuantRecipe recipe : kAllRecipes)
    for (const float zero : {0.0f, -0.0f}) {
      Block x;
      x.fill(zero);
      const Quantized q = quantize(recipe, x, 1.0f);
      EXPECT_EQ(q.sf, 0) << quant_recipe_name(recipe);
      EXPECT_EQ(q.codes, kZeroCodes) << quant_recipe_name(recipe);
    }
}

TEST(nvfp4_block, negative_zero_is_kept_by_rne_and_dropped_by_bridge) {
  Block x{};
  x[0] = 6.0f;
  x[3] = -0.0f;
  x[4] = -0.01f;  // rounds to zero
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, 1.0f).code(3), 0x8);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, 1.0f).code(3), 0x0);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, 1.0f).code(4), 0x8);
}

// The smallest block scale is 2^-9; rne rounds to it from above 2^-10, bridge flushes everything below 2^-9.
TEST(nvfp4_block, underflow_of_the_block_scale) {
  const float g = 0.5f;
  Block x{};
  x[5] = 6.0f * g * 0x1p-10f;  // exactly half the smallest scale: a tie, to the even 0
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).sf, 0);
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).codes, kZeroCodes);
  x[5] = std::nextafterf(x[5], 1.0f);
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).sf, 1);
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).code(5), e2m1_from_float(3.0f));  // 6 * 2^-10 in steps of 2^-9
  x[5] = std::nextafterf(6.0f * g * 0x1p-9f, 0.0f);
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).sf, 1);
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, g).code(5), 7);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, g).sf, 0);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, g).codes, kZeroCodes);
  x[5] = 6.0f * g * 0x1p-9f;
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, g).sf, 1);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, g).code(5), 7);
}

TEST(nvfp4_block, out_of_range_saturates_in_rne_and_is_nan_in_bridge) {
  Block x{};
  x[0] = 1.0f;
  x[1] = -2784.0f;  // 6 * 464: E4M3's last value that rounds to 448
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, 1.0f).sf, 0x7E);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, 1.0f).sf, 0x7E);
  x[1] = -2785.0f;
  EXPECT_EQ(quantize(QuantRecipe::kRne, x, 1.0f).values()[1], -2688.0f);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, 1.0f).sf, kE4m3Nan);
  EXPECT_EQ(quantize(QuantRecipe::kBridge, x, 1.0f).codes, kZeroCodes);
}

TEST(nvfp4_block, global_scale_stays_normal_and_positive) {
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kFourSix, QuantRecipe::kMse}) {
    EXPECT_EQ(nvfp4_global_scale(recipe, 0.0f), 1.0f);
    EXPECT_EQ(nvfp4_global_scale(recipe, FLT_TRUE_MIN), FLT_MIN);
    EXPECT_EQ(nvfp4_global_scale(recipe, 1000 * FLT_MIN), FLT_MIN);
  }
  EXPECT_EQ(nvfp4_global_scale(QuantRecipe::kRne, 2688.0f), 1.0f);
  EXPECT_EQ(nvfp4_global_scale(QuantRecipe::kFourSix, 1536.0f), 1.0f);
  EXPECT_EQ(nvfp4_global_scale(QuantRecipe::kMse, 1536.0f), 1.0f);
  EXPECT_EQ(nvfp4_global_scale(QuantRecipe::kBridge, 0.0f), 1e-8f / 2688.0f);
  EXPECT_TRUE(std::isnan(nvfp4_global_scale(QuantRecipe::kBridge, kNan)));
}

TEST(nvfp4_block, amax_ignores_nan_except_in_bridge) {
  const std::array<float, 4> x{-3.0f, kNan, 2.0f, -kNan};
  EXPECT_EQ(nvfp4_amax(QuantRecipe::kRne, x), 3.0f);
  EXPECT_EQ(nvfp4_amax(QuantRecipe::kMse, x), 3.0f);
  EXPECT_TRUE(std::isnan(nvfp4_amax(QuantRecipe::kBridge, x)));
  EXPECT_EQ(nvfp4_amax(QuantRecipe::kRne, std::span<const float>{}), 0.0f);
}

// Subnormal data under the smallest computed global scale: steps are subnormal but never 0, so nothing is invented.
TEST(nvfp4_block, subnormal_values_are_quantised_or_flushed_but_never_grow) {
  for (const QuantRecipe recipe : kAllRecipes) {
    Block x = ramp();
    for (float& value : x) value *= 0x1p-140f;
    const Quantized q = quantize(recipe, x, nvfp4_global_scale(recipe, nvfp4_amax(recipe, x)));
    for (int i = 0; i < kNvfp4Block; ++i) {
      const float want = x[static_cast<std::size_t>(i)];
      EXPECT_LE(std::fabs(q.values()[static_cast<std::size_t>(i)] - want), std::fabs(want));
    }
  }
}

// Only a static global scale in the subnormal range can make the step vanish.
TEST(nvfp4_block, a_step_that_underflows_gives_zero_codes) {
  Block x{};
  x[2] = FLT_TRUE_MIN;
  const Quantized q = quantize(QuantRecipe::kRne, x, FLT_TRUE_MIN);  // sf about 1/6, step rounds to 0
  EXPECT_EQ(q.sf, e4m3_from_float(1.0f / 6.0f));
  EXPECT_EQ(q.codes, kZeroCodes);
  for (const float value : q.values()) EXPECT_EQ(value, 0.0f);
}

TEST(nvfp4_block, largest_finite_values_do_not_overflow) {
  for (const QuantRecipe recipe : kAllRecipes) {
    Block x = ramp();
    x[9] = -FLT_MAX;
    const Quantized q = quantize(recipe, x, nvfp4_global_scale(recipe, FLT_MAX));
    EXPECT_NEAR(q.values()[9] / -FLT_MAX, 1.0, 1e-6) << quant_recipe_name(recipe);
  }
}

TEST(nvfp4_block, is_usable_in_constant_expressions) {
  constexpr auto sf = [] {
    const float x[kNvfp4Block] = {6.0f, -3.0f};
    std::uint8_t codes[kNvfp4BlockBytes] = {};
    const std::uint8_t scale = nvfp4_block_rne(x, 1.0f, codes);
    return codes[0] == 0xD7 ? scale : std::uint8_t{0};
  }();
  static_assert(sf == 0x38);
}

}  // namespace
}  // namespace megamoe
