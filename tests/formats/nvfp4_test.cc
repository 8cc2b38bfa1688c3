#include "megamoe/formats/nvfp4.h"

#include <gtest/gtest.h>

#include <cmath>

#include "megamoe/formats/bf16.h"
#include "megamoe/formats/fp16.h"

namespace megamoe {
namespace {

TEST(nvfp4, low_nibble_is_even_k) {
  static_assert(nvfp4_pack(0x3, 0xA) == 0xA3);
  for (int byte = 0; byte < 256; ++byte) {
    const auto packed = static_cast<std::uint8_t>(byte);
    EXPECT_EQ(nvfp4_even_k(packed), byte % 16);
    EXPECT_EQ(nvfp4_odd_k(packed), byte / 16);
    EXPECT_EQ(nvfp4_pack(nvfp4_even_k(packed), nvfp4_odd_k(packed)), packed);
  }
}

TEST(nvfp4, multiplies_scale_and_global_first) {
  const float global = 0.1f;
  const std::uint8_t sf = 0x3B;  // 1.375
  EXPECT_EQ(nvfp4_value(0x5, sf, global), 3.0f * (1.375f * global));
  int differ = 0;  // the other order is another number for some codes, so the order must be fixed
  for (int code = 0; code < 8; ++code)
    for (int scale = 1; scale < 127; ++scale) {
      const auto c = static_cast<std::uint8_t>(code);
      const auto s = static_cast<std::uint8_t>(scale);
      differ += nvfp4_value(c, s, global) != (e2m1_to_float(c) * e4m3_to_float(s)) * global;
    }
  EXPECT_GT(differ, 0);
}

// A backend may decode to bf16 or fp16 and keep the global scale for its accumulator, without any loss.
TEST(nvfp4, code_times_scale_is_exact_in_bf16_and_fp16) {
  for (int code = 0; code < 16; ++code)
    for (int sf = 0; sf < 127; ++sf) {
      const float product = nvfp4_value(static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(sf), 1.0f);
      ASSERT_EQ(bf16_to_float(bf16_from_float(product)), product);
      ASSERT_EQ(fp16_to_float(fp16_from_float(product)), product);
      ASSERT_LE(std::fabs(product), kNvfp4Max);
    }
}

TEST(nvfp4, nan_scale_surfaces_even_with_code_zero) {
  EXPECT_TRUE(std::isnan(nvfp4_value(0x0, kE4m3Nan, 1.0f)));
  EXPECT_TRUE(std::isnan(nvfp4_value(0x7, kE4m3Nan, 1.0f)));
}

}  // namespace
}  // namespace megamoe
