// The oracle's own numbers, against values written down from the format specifications.
#include "oracle/numbers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "oracle/quantise.h"

namespace oracle {
namespace {

TEST(oracle_numbers, e2m1_ties_go_to_the_even_code) {
  const double midpoints[7] = {0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0};
  const double tie[7] = {0, 1, 1, 2, 2, 4, 4};
  const double below[7] = {0, 0.5, 1, 1.5, 2, 3, 4};
  const double above[7] = {0.5, 1, 1.5, 2, 3, 4, 6};
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(round_e2m1(midpoints[i]), tie[i]);
    EXPECT_EQ(round_e2m1(std::nextafter(midpoints[i], 0.0)), below[i]);
    EXPECT_EQ(round_e2m1(-std::nextafter(midpoints[i], 9.0)), -above[i]);
  }
  EXPECT_EQ(round_e2m1(1e9), 6.0);
}

TEST(oracle_numbers, every_code_rounds_to_itself) {
  for (unsigned code = 0; code < 16; ++code) EXPECT_EQ(round_e2m1(e2m1(code)), e2m1(code));
  for (unsigned code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    EXPECT_EQ(round_e4m3(e4m3(code)), e4m3(code)) << code;
  }
  for (unsigned bits = 0; bits < 0x7F80; ++bits)
    EXPECT_EQ(round_bf16(bf16(static_cast<std::uint16_t>(bits))), bf16(static_cast<std::uint16_t>(bits))) << bits;
}

TEST(oracle_numbers, e4m3_landmarks) {
  EXPECT_EQ(e4m3(0x01), 0x1p-9);
  EXPECT_EQ(e4m3(0x08), 0x1p-6);
  EXPECT_EQ(e4m3(0x38), 1.0);
  EXPECT_EQ(e4m3(0x7E), 448.0);
  EXPECT_TRUE(std::isnan(e4m3(0x7F)));
  EXPECT_EQ(round_e4m3(0x1p-10), 0.0);  // the tie below the smallest code
  EXPECT_EQ(round_e4m3(std::nextafter(0x1p-10, 1.0)), 0x1p-9);
  EXPECT_EQ(round_e4m3(1.0625), 1.0);  // tie to the even code
  EXPECT_EQ(round_e4m3(1.1875), 1.25);
  EXPECT_EQ(round_e4m3(1e6), 448.0);
}

TEST(oracle_quantise, nvfp4_codes_and_ties) {
  std::vector<double> x(16, 0.0);
  x[0] = 2688.0;        // g = 1, s = 448
  x[1] = -448.0 * 2.5;  // exactly between 2 and 3
  x[2] = 448.0 * 2.625;
  const std::vector<double> a = quantise(Activations::kNvfp4, x, 0.0);
  EXPECT_EQ(a[0], 2688.0);
  EXPECT_EQ(a[1], -2 * 448.0);
  EXPECT_EQ(a[2], 3 * 448.0);
}

TEST(oracle_quantise, a_static_scale_saturates) {
  std::vector<double> x(16, 1.0);
  x[3] = -100.0;
  EXPECT_EQ(quantise(Activations::kNvfp4, x, 0x1p-10)[3], -2688.0 / 1024);
}

TEST(oracle_quantise, int8_has_a_scale_per_64) {
  std::vector<double> x(80, 1.0);
  x[5] = 127.0;
  x[6] = 2.5;
  x[70] = -254.0;
  x[71] = 3.0;
  const std::vector<double> a = quantise(Activations::kInt8, x, 0.0);
  EXPECT_EQ(a[6], 2.0);
  EXPECT_EQ(a[70], -254.0);
  EXPECT_EQ(a[71], 4.0);  // 1.5 steps of 2: the tie goes to 2
}

}  // namespace
}  // namespace oracle
