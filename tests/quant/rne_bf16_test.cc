// Recipe rne on BF16 by vectors, on every instruction set of this machine, against the function that defines the bytes.
#include "quant/rne_bf16.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "megamoe/formats/bf16.h"
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"

#if MEGAMOE_HAVE_CPU_BACKEND
#include "hwy/targets.h"
#endif

namespace megamoe {
namespace {

template <class Check>
void for_each_target([[maybe_unused]] const Check& check) {
#if MEGAMOE_HAVE_CPU_BACKEND
  const std::int64_t all = hwy::SupportedTargets();
  for (std::int64_t left = all; left != 0; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(left & -left));
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
#endif
}

struct Result {
  std::vector<std::uint8_t> codes, sf;
  ErrorStats error;

  explicit Result(std::size_t blocks) : codes(blocks * kNvfp4BlockBytes), sf(blocks) {}
};

// Block by block, as docs/numerics.md has it.
Result one_by_one(const std::vector<std::uint16_t>& weights, float global_scale) {
  Result result(weights.size() / kNvfp4Block);
  for (std::size_t b = 0; b < result.sf.size(); ++b) {
    std::array<float, kNvfp4Block> want, got;
    for (std::size_t i = 0; i < want.size(); ++i) want[i] = bf16_to_float(weights[b * kNvfp4Block + i]);
    std::uint8_t* codes = &result.codes[b * kNvfp4BlockBytes];
    result.sf[b] = nvfp4_block_rne(want.data(), global_scale, codes);
    dequantize_nvfp4_row(codes, &result.sf[b], global_scale, got);
    result.error.add(want, got);
  }
  return result;
}

void expect_same(const std::vector<std::uint16_t>& weights, float global_scale) {
  const Result want = one_by_one(weights, global_scale);
  for_each_target([&] {
    // One byte further: checkpoints align nothing.
    std::vector<std::byte> bytes(2 * weights.size() + 1);
    std::memcpy(bytes.data() + 1, weights.data(), 2 * weights.size());
    for (const bool with_error : {false, true}) {
      Result got(want.sf.size());
      const auto blocks = static_cast<std::int64_t>(want.sf.size());
      std::vector<std::uint16_t> block_amax(want.sf.size());
      const std::uint16_t amax_bits = scan_bf16(bytes.data() + 1, blocks, block_amax.data());
      quantize_rne_bf16(bytes.data() + 1, blocks, block_amax.data(), global_scale, got.codes.data(), got.sf.data(),
                        with_error ? &got.error : nullptr);
      EXPECT_EQ(amax_bits, bf16_amax_bits(weights.data(), static_cast<std::int64_t>(weights.size()), false));
      for (std::size_t b = 0; b < want.sf.size(); ++b) {
        ASSERT_EQ(got.sf[b], want.sf[b]) << "scale of block " << b << ", global scale " << global_scale;
        ASSERT_EQ(std::memcmp(&got.codes[b * kNvfp4BlockBytes], &want.codes[b * kNvfp4BlockBytes], kNvfp4BlockBytes), 0)
            << "block " << b << ", global scale " << global_scale;
      }
      if (!with_error || !has_bf16_squares(global_scale)) continue;
      EXPECT_EQ(got.error.count(), want.error.count());
      if (!std::isfinite(want.error.max_abs())) {
        EXPECT_EQ(std::isnan(got.error.max_abs()), std::isnan(want.error.max_abs()));
        EXPECT_FALSE(std::isfinite(got.error.max_abs()));
        continue;
      }
      // An error is off by 2^-24 of the number, whose product with the step may or may not be rounded first, and by as
      // much of itself; an f32 sum of at most 256 squares by 2^-16. The relative error is the root of a quotient of two
      // such sums.
      const double amax = bf16_to_float(amax_bits);
      EXPECT_NEAR(got.error.max_abs(), want.error.max_abs(), 0x1p-23 * amax + 0x1p-23 * want.error.max_abs());
      EXPECT_NEAR(got.error.relative_error(), want.error.relative_error(),
                  0x1p-23 + 0x1p-16 * want.error.relative_error());
    }
  });
}

// Every BF16 number up to 6 scales, under every scale: what a block's maximum of 6 scales leaves for the others.
TEST(rne_bf16, every_number_under_every_scale) {
  for (const float global_scale : {1.0f, 0x1.5a3d1ep-13f, 0x1.fffffep-20f, 0x1.000002p-9f, 0x1.9p-40f}) {
    std::vector<std::uint16_t> weights;
    for (std::uint8_t sf = 1; sf <= kE4m3MaxCode; ++sf) {
      const std::uint16_t amax = bf16_from_float(kE2m1Max * e4m3_to_float(sf) * global_scale);
      // Most numbers are far below a block's smallest code; the last 2^11 magnitudes are 16 binades.
      for (int magnitude = std::max(0, amax - (1 << 11)); magnitude <= amax; ++magnitude)
        for (const int sign : {0, 0x8000}) {
          if (weights.size() % kNvfp4Block == 0) weights.push_back(amax);
          weights.push_back(static_cast<std::uint16_t>(magnitude | sign));
        }
      while (weights.size() % kNvfp4Block != 0) weights.push_back(amax);
    }
    expect_same(weights, global_scale);
  }
}

// Where codes change depends on the step's mantissa alone (fast_block_test.cc says why), so these are all steps. Of
// BF16 numbers, the three around each threshold are those that a code could be wrong for.
TEST(rne_bf16, numbers_around_every_threshold_for_every_step) {
  constexpr std::array<float, 7> kThresholds{0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  constexpr std::size_t kBlocks = 16, kNumbers = 3 * kThresholds.size();
  std::vector<std::uint16_t> weights(kBlocks * kNvfp4Block, 0);
  std::vector<std::uint8_t> codes(kBlocks * kNvfp4BlockBytes), sf(kBlocks);
  for (std::uint32_t mantissa = 0; mantissa < 1u << 23; ++mantissa) {
    const float step = float_from_bits(0x3F800000u | mantissa);
    for (std::size_t i = 0; i < kNumbers; ++i)
      weights[i] = static_cast<std::uint16_t>(bf16_from_float(kThresholds[i / 3] * step) + i % 3 - 1);
    const std::vector<std::uint16_t> block_amax(kBlocks, bf16_from_float(kE2m1Max * step));
    quantize_rne_bf16(weights.data(), kBlocks, block_amax.data(), step, codes.data(), sf.data(), nullptr);
    for (std::size_t i = 0; i < kNumbers; ++i) {
      const float x = bf16_to_float(weights[i]);
      const std::uint8_t got = i % 2 == 0 ? nvfp4_even_k(codes[i / 2]) : nvfp4_odd_k(codes[i / 2]);
      ASSERT_EQ(got, e2m1_from_float(x / step)) << x << " under a step of " << step;
    }
    ASSERT_EQ(sf[0], e4m3_from_float(1.0f));
  }
}

// Each lane of a block holds the maximum once, and each block of a batch another one.
TEST(rne_bf16, finds_the_maximum_in_every_lane_of_every_block) {
  std::vector<std::uint16_t> weights(std::size_t{16} * 16 * kNvfp4Block, bf16_from_float(-0.01f));
  for (std::size_t b = 0; b < weights.size() / kNvfp4Block; ++b)
    weights[b * kNvfp4Block + (b + b / 16) % 16] = bf16_from_float(1.0f + static_cast<float>(b % 16));
  expect_same(weights, 17.0f / kNvfp4Max);
}

// Zeros, subnormals, numbers out of range, Inf and NaN, in blocks of which most have a fast form and some have none.
TEST(rne_bf16, blocks_without_a_fast_form) {
  std::mt19937 random(3);
  for (int round = 0; round < 400; ++round) {
    const int spread = 1 + static_cast<int>(random() % 60), first = static_cast<int>(random() % 254);
    std::vector<std::uint16_t> weights((1 + random() % 70) * kNvfp4Block);
    for (std::uint16_t& weight : weights) {
      const int binade = std::min(254, first + static_cast<int>(random() % static_cast<unsigned>(spread)));
      weight = static_cast<std::uint16_t>((random() & 0x807F) | static_cast<unsigned>(binade) << 7);
    }
    if (round % 3 == 0) std::fill_n(weights.begin(), kNvfp4Block, std::uint16_t{0});
    if (round % 8 == 1) weights[random() % weights.size()] = 0x7FC0;
    if (round % 8 == 2) weights[random() % weights.size()] = 0xFF80;
    const float amax = bf16_to_float(bf16_amax_bits(weights.data(), static_cast<std::int64_t>(weights.size()), true));
    const float largest = std::isinf(amax) ? 1.0f : amax;
    expect_same(weights, nvfp4_computed_global_scale(largest, kNvfp4ScaleMax));
    expect_same(weights, nvfp4_computed_global_scale(std::ldexp(largest, static_cast<int>(random() % 20) - 10), 448));
  }
}

// Maxima of 6 to 9 steps: scales at the largest and at the smallest there are do not grow and shrink with the block.
TEST(rne_bf16, quotients_above_the_largest_code) {
  std::vector<std::uint16_t> weights;
  for (const float scale : {kNvfp4ScaleMax, 0x1p-9f, 0x1p-8f, 3 * 0x1p-9f})
    for (int b = 0; b < 16 * 12; ++b)
      for (int i = 0; i < kNvfp4Block; ++i) {
        const float steps = (6.0f + 3.0f * static_cast<float>(b % 16) / 16) *
                            (i == 0 ? 1.0f : 1.0f - 0.01f * static_cast<float>(b / 16));
        weights.push_back(bf16_from_float(i % 2 == 0 ? scale * steps : -scale * steps));
      }
  expect_same(weights, 1.0f);
}

TEST(rne_bf16, amax_is_that_of_floats) {
  std::mt19937 random(4);
  for (std::size_t count = 0; count < 400; ++count) {
    std::vector<std::uint16_t> weights(count + 1);
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      weights[i] = static_cast<std::uint16_t>(random());
      if (count % 2 == 0 && (weights[i] & 0x7F80) == 0x7F80) weights[i] ^= 0x4000;  // finite
      values[i] = bf16_to_float(weights[i]);
    }
    weights[count] = 0x7F7F;  // behind the end
    for_each_target([&] {
      const auto n = static_cast<std::int64_t>(count);
      const float with_nan = bf16_to_float(bf16_amax_bits(weights.data(), n, false));
      EXPECT_EQ(float_bits(with_nan), float_bits(nan_or_amax(values.data(), n))) << count;
      EXPECT_EQ(bf16_to_float(bf16_amax_bits(weights.data(), n, true)), nvfp4_amax(QuantRecipe::kRne, values)) << count;
    });
  }
}

}  // namespace
}  // namespace megamoe
