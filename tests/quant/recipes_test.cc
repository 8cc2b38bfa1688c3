// What the recipes cost and gain, block by block and on the whole.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"
#include "quant/nvfp4_search.h"

namespace megamoe {
namespace {

using Block = std::array<float, kNvfp4Block>;

std::vector<float> gaussian(std::size_t count, float sigma = 1.0f) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> heavy_tailed(std::size_t count) {
  std::mt19937 random(8);
  std::student_t_distribution<float> student(2.0f);
  std::vector<float> values(count);
  for (float& value : values) value = student(random);
  return values;
}

double squared_error(std::span<const float> want, std::span<const float> got) {
  double sum = 0;
  for (std::size_t i = 0; i < want.size(); ++i) sum += (double{want[i]} - got[i]) * (double{want[i]} - got[i]);
  return sum;
}

double squared_error(QuantRecipe recipe, std::span<const float> values, float global_scale) {
  std::vector<std::uint8_t> codes(values.size() / 2);
  std::vector<std::uint8_t> sf(values.size() / kNvfp4Block);
  quantize_nvfp4_row(recipe, values, global_scale, codes.data(), sf.data());
  std::vector<float> back(values.size());
  dequantize_nvfp4_row(codes.data(), sf.data(), global_scale, back);
  return squared_error(values, back);
}

double squared_error(QuantRecipe recipe, std::span<const float> values) {
  return squared_error(recipe, values, nvfp4_global_scale(recipe, nvfp4_amax(recipe, values)));
}

TEST(recipes, names_round_trip) {
  for (const char* name : {"rne", "bridge", "four_six", "mse"}) {
    QuantRecipe recipe{};
    ASSERT_TRUE(parse_quant_recipe(name, &recipe));
    EXPECT_EQ(quant_recipe_name(recipe), name);
  }
  QuantRecipe untouched = QuantRecipe::kMse;
  EXPECT_FALSE(parse_quant_recipe("RNE", &untouched));
  EXPECT_EQ(untouched, QuantRecipe::kMse);
}

TEST(recipes, bridge_costs_about_a_third_more_on_gaussian_data) {
  const std::vector<float> values = gaussian(1 << 18);
  const double ratio = squared_error(QuantRecipe::kBridge, values) / squared_error(QuantRecipe::kRne, values);
  EXPECT_GT(ratio, 1.2);
  EXPECT_LT(ratio, 1.45);
}

TEST(recipes, searching_recipes_beat_rne_on_the_whole) {
  for (const std::vector<float>& values : {gaussian(1 << 17), gaussian(1 << 17, 1e-25f), gaussian(1 << 17, 1e25f)}) {
    const double rne = squared_error(QuantRecipe::kRne, values);
    const double four_six = squared_error(QuantRecipe::kFourSix, values);
    const double mse = squared_error(QuantRecipe::kMse, values);
    EXPECT_LT(four_six, 0.95 * rne);
    EXPECT_LT(mse, 0.95 * four_six);
  }
}

// Under one global scale every candidate of the narrower recipe is a candidate of the wider, so block by block the
// error cannot grow. The choice compares fp32 sums of 16 terms, each with a few roundings: 2^-18 covers them.
TEST(recipes, wider_searches_are_never_worse_in_any_block) {
  constexpr double kRounding = 1 + 0x1p-18;
  for (const std::vector<float>& values : {gaussian(1 << 15), heavy_tailed(1 << 15)}) {
    const float global_scale = nvfp4_global_scale(QuantRecipe::kFourSix, nvfp4_amax(QuantRecipe::kFourSix, values));
    for (std::size_t first = 0; first < values.size(); first += kNvfp4Block) {
      const std::span block = std::span(values).subspan(first, kNvfp4Block);
      const double rne = squared_error(QuantRecipe::kRne, block, global_scale);
      const double four_six = squared_error(QuantRecipe::kFourSix, block, global_scale);
      const double mse = squared_error(QuantRecipe::kMse, block, global_scale);
      ASSERT_LE(four_six, rne * kRounding) << first;
      ASSERT_LE(mse, four_six * kRounding) << first;
    }
  }
}

// The whole E4M3 range tried in double precision, on Gaussian blocks: the documented range of mse loses nothing.
TEST(recipes, range_of_mse_holds_the_best_scale_of_gaussian_blocks) {
  const std::vector<float> values = gaussian(1 << 13);
  const float global_scale = nvfp4_global_scale(QuantRecipe::kMse, nvfp4_amax(QuantRecipe::kMse, values));
  for (std::size_t first = 0; first < values.size(); first += kNvfp4Block) {
    const std::span block = std::span(values).subspan(first, kNvfp4Block);
    double best = 1e300;
    for (int sf = 0; sf <= kE4m3MaxCode; ++sf) {
      const double step = double{e4m3_to_float(static_cast<std::uint8_t>(sf))} * global_scale;
      double error = 0;
      for (const float x : block) {
        const double q = sf == 0 ? 0 : e2m1_to_float(e2m1_from_float(static_cast<float>(x / step)));
        error += (x - q * step) * (x - q * step);
      }
      best = std::min(best, error);
    }
    ASSERT_LE(squared_error(QuantRecipe::kMse, block, global_scale), best * (1 + 1e-5)) << first;
  }
}

std::uint8_t scale_of(std::uint8_t (*quantize)(const float*, float, std::uint8_t*) noexcept, const Block& x) {
  std::array<std::uint8_t, kNvfp4BlockBytes> codes;
  return quantize(x.data(), 1.0f, codes.data());
}

TEST(recipes, four_six_maps_the_maximum_to_4_where_that_is_exact) {
  Block x{4.0f, 3.0f, 2.0f, 1.0f};  // every value has a code at scale 1; at 4 / 6 none but 0 has
  EXPECT_EQ(scale_of(nvfp4_block_four_six, x), e4m3_from_float(1.0f));
  EXPECT_EQ(scale_of(nvfp4_block_mse, x), e4m3_from_float(1.0f));
}

TEST(recipes, ties_go_to_6_in_four_six_and_to_the_larger_scale_in_mse) {
  const Block x{6.0f, -3.0f};  // exact at scale 1 (6, 3) and at 1.5 (4, 2), and at no larger one
  EXPECT_EQ(scale_of(nvfp4_block_four_six, x), e4m3_from_float(1.0f));
  EXPECT_EQ(scale_of(nvfp4_block_mse, x), e4m3_from_float(1.5f));
}

TEST(recipes, a_block_too_small_for_6_may_still_map_to_4) {
  const Block x{5.0f * 0x1p-10f};  // amax / 6 rounds to scale 0; amax / 4 to 2^-9, with code 2.5 -> 2
  EXPECT_EQ(scale_of(nvfp4_block_four_six, x), 1);
  EXPECT_EQ(scale_of(nvfp4_block_mse, x), 1);
}

}  // namespace
}  // namespace megamoe
