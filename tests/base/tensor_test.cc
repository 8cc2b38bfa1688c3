#include "megamoe/tensor.h"

#include <gtest/gtest.h>

#include "megamoe/error.h"

namespace megamoe {
namespace {

TEST(tensor, dtype_names_round_trip) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    DType parsed{};
    ASSERT_TRUE(parse_dtype(dtype_name(dtype), &parsed)) << dtype_name(dtype);
    EXPECT_EQ(parsed, dtype);
  }
  DType untouched = DType::kF32;
  EXPECT_FALSE(parse_dtype("f32", &untouched));
  EXPECT_EQ(untouched, DType::kF32);
}

TEST(tensor, shape_counts_elements) {
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ((Shape{3, 0, 5}).elements(), 0);
  EXPECT_EQ((Shape{7168, 2048}).to_string(), "[7168, 2048]");
  EXPECT_THROW((Shape{1, -1}), Error);
}

TEST(tensor, bytes_of_four_bit_elements) { EXPECT_EQ((ConstTensorView{nullptr, DType::kF4, {3, 32}}).bytes(), 48); }

}  // namespace
}  // namespace megamoe
