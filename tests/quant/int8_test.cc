#include <gtest/gtest.h>

#include <array>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "megamoe/quant.h"

namespace megamoe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Int8Row {
  std::vector<std::int8_t> q;
  std::vector<float> scales;
};

Int8Row quantize(const std::vector<float>& row) {
  Int8Row out{std::vector<std::int8_t>(row.size(), 99),
              std::vector<float>(static_cast<std::size_t>(int8_scales(static_cast<std::int64_t>(row.size()))), -1.0f)};
  quantize_int8_row(row, out.q.data(), out.scales.data());
  return out;
}

TEST(int8_row, integers_up_to_127_are_exact) {
  std::vector<float> row(64);
  for (int i = 0; i < 64; ++i) row[static_cast<std::size_t>(i)] = static_cast<float>(i % 2 == 0 ? 2 * i : -2 * i);
  row[0] = 127.0f;
  const Int8Row got = quantize(row);
  EXPECT_EQ(got.scales, std::vector<float>{1.0f});
  for (std::size_t i = 0; i < row.size(); ++i) EXPECT_EQ(got.q[i], row[i]);
}

TEST(int8_row, ties_go_to_even) {
  std::vector<float> row(16, 0.0f);
  row[0] = 127.0f;
  row[1] = 0.5f, row[2] = 1.5f, row[3] = 2.5f, row[4] = -0.5f, row[5] = -1.5f, row[6] = -2.5f, row[7] = 125.5f;
  const Int8Row got = quantize(row);
  const std::array<int, 8> want{127, 0, 2, 2, 0, -2, -2, 126};
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got.q[i], want[i]) << row[i];
}

TEST(int8_row, each_64_values_have_their_own_scale_and_the_last_block_may_be_short) {
  std::vector<float> row(64 + 64 + 16, 0.0f);
  row[3] = 127.0f, row[64] = -254.0f, row[143] = 12.7f;
  const Int8Row got = quantize(row);
  EXPECT_EQ(got.scales, (std::vector<float>{1.0f, 2.0f, 12.7f / 127.0f}));
  EXPECT_EQ(got.q[3], 127);
  EXPECT_EQ(got.q[64], -127);
  EXPECT_EQ(got.q[143], 127);
}

TEST(int8_row, error_is_at_most_half_a_step) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> row(160);
  for (float& value : row) value = normal(random);
  const Int8Row got = quantize(row);
  std::vector<float> back(row.size());
  dequantize_int8_row(got.q.data(), got.scales.data(), back);
  // Half a step, and the roundings of the division and of the product (127 * 2^-24 of a step each).
  for (std::size_t i = 0; i < row.size(); ++i)
    EXPECT_LE(std::fabs(back[i] - row[i]), got.scales[i / 64] * (0.5f + 0x1p-15f)) << i;
}

TEST(int8_row, zero_and_too_small_blocks_have_scale_zero) {
  for (const float tiny : {0.0f, -0.0f, FLT_TRUE_MIN, 60 * FLT_TRUE_MIN}) {
    const Int8Row got = quantize(std::vector<float>(16, tiny));
    EXPECT_EQ(got.scales[0], 0.0f);
    for (const std::int8_t q : got.q) EXPECT_EQ(q, 0);
  }
}

TEST(int8_row, subnormal_scales_stay_within_127) {
  const Int8Row got = quantize(std::vector<float>(16, 185 * FLT_TRUE_MIN));  // 185 / 127 rounds to a scale of 1
  EXPECT_EQ(got.scales[0], FLT_TRUE_MIN);
  for (const std::int8_t q : got.q) EXPECT_EQ(q, 127);
}

TEST(int8_row, nan_and_inf_in_any_lane_surface_as_nan) {
  for (const float broken : {kNan, -kNan, kInf, -kInf})
    for (std::size_t lane = 0; lane < 64; ++lane) {
      std::vector<float> row(128, 1.0f);
      row[lane] = broken;
      const Int8Row got = quantize(row);
      std::vector<float> back(row.size());
      dequantize_int8_row(got.q.data(), got.scales.data(), back);
      for (std::size_t i = 0; i < 64; ++i) {
        ASSERT_EQ(got.q[i], 0);
        ASSERT_TRUE(std::isnan(back[i]));
      }
      for (std::size_t i = 64; i < 128; ++i) ASSERT_EQ(back[i], 127 * (1.0f / 127.0f));
    }
}

}  // namespace
}  // namespace megamoe
