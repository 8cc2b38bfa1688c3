#include "megamoe/layout/row_layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace megamoe {
namespace {

using Counts = std::vector<std::int64_t>;

TEST(row_layout, begins_and_ends_of_experts) {
  const Counts rows{3, 0, 5, 0};
  Counts begin(5, -1);
  row_begin_from_counts(rows, begin);
  EXPECT_EQ(begin, (Counts{0, 3, 3, 8, 8}));
  std::vector<std::int32_t> end(4, -1);
  row_end_from_row_begin(begin, end);
  EXPECT_EQ(end, (std::vector<std::int32_t>{3, 3, 8, 8}));
}

TEST(row_layout, no_experts) {
  Counts begin(1, -1);
  row_begin_from_counts({}, begin);
  EXPECT_EQ(begin, Counts{0});
  row_end_from_row_begin(begin, {});
}

TEST(row_layout, int32_offsets_reach_2147483647_and_no_further) {
  constexpr std::int64_t kMax = 2147483647;
  std::vector<std::int32_t> end(2, -1);
  row_end_from_row_begin(Counts{0, 1, kMax}, end);
  EXPECT_EQ(end, (std::vector<std::int32_t>{1, 2147483647}));
  end = {-1, -1};
  try {
    row_end_from_row_begin(Counts{0, 1, kMax + 1}, end);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_EQ(error.what(), std::string("32-bit expert offsets: asked 2147483648 rows, accepted: at most 2147483647"));
  }
  EXPECT_EQ(end, (std::vector<std::int32_t>{-1, -1}));
}

TEST(row_layout, refuses_negative_overflowing_and_misfit_counts) {
  Counts begin(3, -1);
  EXPECT_THROW(row_begin_from_counts(Counts{4, -1}, begin), Error);
  EXPECT_THROW(row_begin_from_counts(Counts{INT64_MAX, 1}, begin), Error);
  EXPECT_THROW(row_begin_from_counts(Counts{1}, begin), Error);
  std::vector<std::int32_t> end(3);
  EXPECT_THROW(row_end_from_row_begin(begin, end), Error);
  EXPECT_EQ(begin, Counts(3, -1));
}

}  // namespace
}  // namespace megamoe
