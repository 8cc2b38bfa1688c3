#include "backends/cpu/packed_layout.h"

#include <gtest/gtest.h>

#include <set>

#include "megamoe/formats/e4m3.h"

namespace megamoe::cpu {
namespace {

TEST(packed_layout, every_nibble_and_scale_has_its_own_place) {
  for (const std::int64_t k : {16, 64, 80, 192}) {
    std::set<std::int64_t> half_bytes;
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      for (std::int64_t i = 0; i < k; ++i) {
        const NibbleAt at = code_at(lane, i);
        ASSERT_TRUE(half_bytes.insert(2 * at.byte + at.shift / 4).second) << "lane " << lane << ", k " << i;
        if (i % 16 == 0) {
          ASSERT_TRUE(half_bytes.insert(2 * scale_byte(lane, i)).second);
          ASSERT_TRUE(half_bytes.insert(2 * scale_byte(lane, i) + 1).second);
        }
      }
    EXPECT_GE(*half_bytes.begin(), 0);
    EXPECT_LT(*half_bytes.rbegin(), 2 * panel_bytes(WeightFormat::kNvfp4, k));
    if (k % kTileK == 0) {
      EXPECT_EQ(static_cast<std::int64_t>(half_bytes.size()), 2 * panel_bytes(WeightFormat::kNvfp4, k));
    }
  }
}

TEST(packed_layout, bf16_panel_is_a_bijection) {
  std::set<std::int64_t> elements;
  for (std::int64_t lane = 0; lane < kLanes; ++lane)
    for (std::int64_t i = 0; i < 48; ++i) ASSERT_TRUE(elements.insert(bf16_at(lane, i)).second);
  EXPECT_EQ(2 * (*elements.rbegin() + 1), panel_bytes(WeightFormat::kBf16, 48));
}

// Lane 3, element 21 of the second tile: block 1, its first half, quad 1, so the high nibbles of lane 3's second byte.
TEST(packed_layout, a_place_by_hand) {
  EXPECT_EQ(code_at(3, 64 + 21).byte, 1152 + 128 + 256 + 0 + 12 + 1);
  EXPECT_EQ(code_at(3, 64 + 21).shift, 4);
  EXPECT_EQ(scale_byte(3, 64 + 21), 1152 + 32 + 3);
}

TEST(packed_layout, ue5m3_holds_every_positive_e4m3) {
  for (int code = 1; code <= 0x7E; ++code) {
    const auto e4m3 = static_cast<std::uint8_t>(code);
    EXPECT_EQ(ue5m3_to_float(ue5m3_from_e4m3(e4m3)), e4m3_to_float(e4m3)) << "code " << code;
  }
}

}  // namespace
}  // namespace megamoe::cpu
