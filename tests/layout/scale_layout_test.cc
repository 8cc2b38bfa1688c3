#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "golden/golden_file.h"
#include "megamoe/error.h"
#include "megamoe/layout.h"

namespace megamoe {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Never 0, which is what padding holds.
Bytes numbered(std::int64_t count) {
  Bytes bytes(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(1 + i % 255);
  return bytes;
}

Bytes poisoned(std::int64_t count) { return Bytes(static_cast<std::size_t>(count), 0x7F); }

TEST(scale_layout, worked_examples) {
  static_assert(swizzled_offset<Swizzle128x4>(33, 5, 8) == 533);
  static_assert(swizzled_offset<Swizzle8x4>(9, 5, 8) == 101);
  static_assert(swizzled_bytes<Swizzle128x4>(200, 12) == 3072);
  static_assert(swizzled_bytes<Swizzle8x4>(9, 5) == 128);
}

template <class Swizzle>
void expect_bijection(std::int64_t rows, std::int64_t cols) {
  const std::int64_t bytes = swizzled_bytes<Swizzle>(rows, cols);
  std::vector<int> hits(static_cast<std::size_t>(bytes), 0);
  for (std::int64_t r = 0; r < pad_to(rows, Swizzle::kAtomRows); ++r)
    for (std::int64_t c = 0; c < pad_to(cols, kScaleAtomCols); ++c) {
      const std::int64_t offset = swizzled_offset<Swizzle>(r, c, cols);
      ASSERT_GE(offset, 0);
      ASSERT_LT(offset, bytes);
      ++hits[static_cast<std::size_t>(offset)];
      ASSERT_EQ(swizzled_position<Swizzle>(offset, cols), (ScalePosition{r, c}));
    }
  for (const int hit : hits) ASSERT_EQ(hit, 1);
}

TEST(scale_layout, both_swizzles_are_bijections_of_the_padded_matrix) {
  for (const std::int64_t rows : {1, 7, 8, 9, 127, 128, 129, 300})
    for (const std::int64_t cols : {1, 3, 4, 5, 8, 13}) {
      expect_bijection<Swizzle128x4>(rows, cols);
      expect_bijection<Swizzle8x4>(rows, cols);
    }
}

TEST(scale_layout, golden_bytes_of_the_128x4_swizzle_and_back) {
  const test::GoldenFile golden;
  for (const std::string name : {"swizzle", "swizzle_small"}) {
    const Shape shape = golden.view(name + ".in").shape;
    const Bytes linear = golden.bytes(name + ".in");
    Bytes swizzled = poisoned(swizzled_bytes<Swizzle128x4>(shape[0], shape[1]));
    swizzle_scales<Swizzle128x4>(linear, shape[0], shape[1], swizzled);
    EXPECT_EQ(swizzled, golden.bytes(name + ".out"));
    Bytes back(linear.size());
    unswizzle_scales<Swizzle128x4>(swizzled, shape[0], shape[1], back);
    EXPECT_EQ(back, linear);
  }
}

TEST(scale_layout, padding_is_zero_and_is_not_read_back) {
  const std::int64_t rows = 130;
  const std::int64_t cols = 5;
  const Bytes linear = numbered(rows * cols);
  Bytes swizzled = poisoned(swizzled_bytes<Swizzle8x4>(rows, cols));
  swizzle_scales<Swizzle8x4>(linear, rows, cols, swizzled);
  for (std::size_t i = 0; i < swizzled.size(); ++i) {
    const ScalePosition at = swizzled_position<Swizzle8x4>(static_cast<std::int64_t>(i), cols);
    const bool real = at.row < rows && at.col < cols;
    ASSERT_EQ(swizzled[i], real ? linear[static_cast<std::size_t>(at.row * cols + at.col)] : 0);
    if (!real) swizzled[i] = 0x7F;
  }
  Bytes back(linear.size());
  unswizzle_scales<Swizzle8x4>(swizzled, rows, cols, back);
  EXPECT_EQ(back, linear);
}

TEST(scale_layout, activation_side_pads_each_expert_and_concatenates) {
  const std::vector<std::int64_t> row_begin{0, 3, 3, 131, 260};  // 3, 0, 128 and 129 rows
  const std::int64_t cols = 6;
  const Bytes linear = numbered(row_begin.back() * cols);
  EXPECT_EQ(grouped_scales_begin(row_begin.data(), 2, cols), 128 * 8);
  EXPECT_EQ(grouped_scales_begin(row_begin.data(), 3, cols), 2 * 128 * 8);
  const std::int64_t bytes = grouped_scales_begin(row_begin.data(), 4, cols);
  EXPECT_EQ(bytes, 4 * 128 * 8);

  Bytes grouped = poisoned(bytes);
  swizzle_grouped_scales(linear, row_begin, cols, grouped);
  Bytes want;
  for (std::size_t e = 0; e < 4; ++e) {
    const std::int64_t rows = row_begin[e + 1] - row_begin[e];
    const std::span own =
        std::span(linear).subspan(static_cast<std::size_t>(row_begin[e] * cols), static_cast<std::size_t>(rows * cols));
    Bytes one(static_cast<std::size_t>(swizzled_bytes<Swizzle128x4>(rows, cols)));
    swizzle_scales<Swizzle128x4>(own, rows, cols, one);
    want.insert(want.end(), one.begin(), one.end());
  }
  EXPECT_EQ(grouped, want);
  Bytes back(linear.size());
  unswizzle_grouped_scales(grouped, row_begin, cols, back);
  EXPECT_EQ(back, linear);
}

TEST(scale_layout, weight_side_pads_each_expert_and_stacks) {
  const std::int64_t experts = 3;
  const std::int64_t rows = 144;
  const std::int64_t cols = 9;
  const Bytes linear = numbered(experts * rows * cols);
  const std::int64_t each = swizzled_bytes<Swizzle128x4>(rows, cols);
  EXPECT_EQ(each, 256 * 12);
  Bytes stacked = poisoned(experts * each);
  swizzle_stacked_scales(linear, experts, rows, cols, stacked);
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t i = 0; i < each; ++i) {
      const ScalePosition at = swizzled_position<Swizzle128x4>(i, cols);
      const bool real = at.row < rows && at.col < cols;
      const auto from = static_cast<std::size_t>((e * rows + at.row) * cols + at.col);
      ASSERT_EQ(stacked[static_cast<std::size_t>(e * each + i)], real ? linear[from] : 0);
    }
  Bytes back(linear.size());
  unswizzle_stacked_scales(stacked, experts, rows, cols, back);
  EXPECT_EQ(back, linear);
}

TEST(scale_layout, refuses_sizes_that_do_not_fit) {
  const Bytes linear(200 * 12);
  Bytes swizzled(3071, 0x7F);
  EXPECT_THROW(swizzle_scales<Swizzle128x4>(linear, 200, 12, swizzled), Error);
  EXPECT_THROW(swizzle_stacked_scales(linear, 1, 200, 12, swizzled), Error);
  EXPECT_THROW(swizzle_grouped_scales(linear, std::vector<std::int64_t>{0, 200}, 12, swizzled), Error);
  EXPECT_THROW(swizzle_grouped_scales(linear, std::vector<std::int64_t>{0, 300, 200}, 12, swizzled), Error);
  EXPECT_THROW(swizzle_grouped_scales({}, {}, 12, {}), Error);
  EXPECT_EQ(swizzled, Bytes(3071, 0x7F));
}

}  // namespace
}  // namespace megamoe
