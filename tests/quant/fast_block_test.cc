// The one-division form of recipe rne, which the CUDA backends run, against the form that defines the bytes.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>

#include "quant/nvfp4_fast_block.h"

namespace megamoe {
namespace {

constexpr std::array<float, 7> kThresholds{0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};

// Which side of a threshold, or on it: -1, 0, 1.
int side(float quotient, float threshold) { return (quotient > threshold) - (quotient < threshold); }

// A code is decided by the sides of the seven thresholds on which x / step lies after rounding. Scaling x or step by a
// power of two scales both quotients exactly, so every mantissa of step in one binade is every step; and an x more than
// three floats from threshold * step has a quotient further from the threshold than the fast form's error, which is
// below one unit in the last place.
TEST(nvfp4_fast_block, quotient_is_on_the_exact_side_of_every_threshold_for_every_step) {
  std::int64_t checked = 0;
  for (std::uint32_t mantissa = 0; mantissa < 1u << 23; ++mantissa) {
    const float step = float_from_bits(0x3F800000u | mantissa);
    const StepReciprocal reciprocal = StepReciprocal::of(step);
    for (const float threshold : kThresholds) {
      const std::uint32_t center = float_bits(threshold * step);
      int wrong = 0;
      for (std::uint32_t bits = center - 3; bits <= center + 3; ++bits) {
        const float x = float_from_bits(bits);
        wrong += side(reciprocal.times(x), threshold) != side(x / step, threshold);
      }
      ASSERT_EQ(wrong, 0) << "step " << step << ", threshold " << threshold;
      checked += 7;
    }
  }
  EXPECT_EQ(checked, std::int64_t{49} << 23);
}

// Elsewhere it is enough that the error is small: here at most one unit in the last place, over all binades in use.
TEST(nvfp4_fast_block, quotient_is_within_one_unit_in_the_last_place) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const float step =
        std::ldexp(1.0f + static_cast<float>(random() >> 8) * 0x1p-24f, static_cast<int>(random() % 120) - 60);
    const float x = step * std::ldexp(static_cast<float>(random() >> 8) * 0x1p-24f, static_cast<int>(random() % 8) - 4);
    if (x < 0.2f * step || x > 6.875f * step) continue;
    const float quotient = x / step;
    const auto distance =
        static_cast<std::int32_t>(float_bits(StepReciprocal::of(step).times(x)) - float_bits(quotient));
    ASSERT_LE(std::abs(distance), 1) << x << " / " << step;
  }
}

TEST(nvfp4_fast_block, rounding_and_codes_are_those_of_the_format) {
  for (std::uint32_t bits = 0; bits < float_bits(7.0f); bits += 61) {
    const float value = float_from_bits(bits);
    ASSERT_EQ(e2m1_rounded_unsaturated(value), e2m1_rounded_magnitude(value)) << value;
    ASSERT_EQ(e2m1_rounded_unsaturated(-value), e2m1_rounded_magnitude(-value)) << value;
  }
  for (const float threshold : kThresholds)
    for (std::uint32_t bits = float_bits(threshold) - 4; bits <= float_bits(threshold) + 4; ++bits)
      ASSERT_EQ(e2m1_rounded_unsaturated(float_from_bits(bits)), e2m1_rounded_magnitude(float_from_bits(bits)));
  for (std::uint8_t code = 0; code < 8; ++code)
    EXPECT_EQ(e2m1_code_at_bit_22(e2m1_to_float(code)), static_cast<std::uint32_t>(code) << 22);
}

// Whole blocks of random bits of bf16 and f32, with their own maximum's scale and with others'.
TEST(nvfp4_fast_block, blocks_get_the_bytes_of_rne) {
  std::mt19937 random(2);
  std::int64_t fast = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::array<float, kNvfp4Block> x;
    const int spread = static_cast<int>(random() % 40) + 1;
    const int exponent = static_cast<int>(random() % 230);
    for (float& value : x) {
      auto bits = static_cast<std::uint32_t>(random());
      const auto binade =
          static_cast<std::uint32_t>(exponent + static_cast<int>(random() % static_cast<unsigned>(spread)));
      bits = (bits & 0x807FFFFFu) | std::min(binade, 254u) << 23;
      value = float_from_bits(i % 2 == 0 ? bits : bits & 0xFFFF0000u);
    }
    const float amax = nan_or_amax(x.data(), kNvfp4Block);
    const float global_scale =
        nvfp4_computed_global_scale(amax * std::ldexp(1.0f, static_cast<int>(random() % 12)), kNvfp4ScaleMax);
    std::array<std::uint8_t, kNvfp4BlockBytes> codes;
    const std::uint8_t sf = nvfp4_block_rne(x.data(), global_scale, codes.data());
    const float step = nvfp4_step(sf, global_scale);
    if (!nvfp4_has_fast_form(amax, step)) continue;
    ++fast;
    const StepReciprocal reciprocal = StepReciprocal::of(step);
    for (int k = 0; k < kNvfp4Block; ++k) {
      const float value = x[static_cast<std::size_t>(k)];
      const std::uint8_t packed = codes[static_cast<std::size_t>(k / 2)];
      const std::uint32_t want = k % 2 == 0 ? nvfp4_even_k(packed) : nvfp4_odd_k(packed);
      const std::uint32_t magnitude = e2m1_code_at_bit_22(e2m1_rounded_unsaturated(reciprocal.times(value))) >> 22;
      ASSERT_EQ(magnitude | (float_bits(value) >> 31) << 3, want) << value << " under a step of " << step;
    }
  }
  EXPECT_GT(fast, 50'000);
}

TEST(nvfp4_fast_block, refuses_what_it_can_not_do) {
  EXPECT_FALSE(nvfp4_has_fast_form(0.0f, 0.0f));
  EXPECT_FALSE(nvfp4_has_fast_form(float_from_bits(kFloatQuietNanBits), 1.0f));
  EXPECT_FALSE(nvfp4_has_fast_form(1.0f, float_from_bits(kFloatQuietNanBits)));
  EXPECT_FALSE(nvfp4_has_fast_form(float_from_bits(kFloatInfBits), 1.0f));
  EXPECT_FALSE(nvfp4_has_fast_form(float_from_bits(kFloatInfBits), float_from_bits(kFloatInfBits)));
  EXPECT_FALSE(nvfp4_has_fast_form(7.0f, 1.0f));
  EXPECT_TRUE(nvfp4_has_fast_form(6.5f, 1.0f));
}

}  // namespace
}  // namespace megamoe
