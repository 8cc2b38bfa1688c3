#include "megamoe/quant/error_stats.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "megamoe/error.h"

namespace megamoe {
namespace {

using Values = std::array<float, 4>;

ErrorStats stats(const Values& want, const Values& got) {
  ErrorStats s;
  s.add(want, got);
  return s;
}

TEST(error_stats, known_values) {
  const ErrorStats s = stats({3, 4, 0, 0}, {3, 4, 0.3f, -0.4f});
  EXPECT_EQ(s.count(), 4);
  EXPECT_FLOAT_EQ(static_cast<float>(s.max_abs()), 0.4f);
  EXPECT_NEAR(s.relative_error(), 0.1, 1e-8);
  EXPECT_NEAR(s.sqnr_db(), 20.0, 1e-6);
}

TEST(error_stats, merging_pieces_equals_one_piece) {
  ErrorStats whole = stats({1, 2, 3, 4}, {1.5f, 2, 2.5f, 4});
  ErrorStats pieces;
  pieces.merge(stats({1, 2, 0, 0}, {1.5f, 2, 0, 0}));
  pieces.merge(stats({3, 4, 0, 0}, {2.5f, 4, 0, 0}));
  EXPECT_EQ(whole.relative_error(), pieces.relative_error());
  EXPECT_EQ(whole.max_abs(), pieces.max_abs());
  EXPECT_EQ(pieces.count(), 8);
}

TEST(error_stats, nothing_and_zero_reference_are_defined) {
  EXPECT_EQ(ErrorStats{}.relative_error(), 0);
  EXPECT_EQ(ErrorStats{}.max_abs(), 0);
  EXPECT_EQ(ErrorStats{}.sqnr_db(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(stats({}, {}).relative_error(), 0);
  EXPECT_EQ(stats({}, {0, 1}).relative_error(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(stats({}, {0, 1}).sqnr_db(), -std::numeric_limits<double>::infinity());
}

TEST(error_stats, nan_on_either_side_surfaces_in_every_figure) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ErrorStats& s : {stats({1, 2, 3, 4}, {1, nan, 9, 4}), stats({1, nan, 3, 4}, {1, 2, 9, 4})}) {
    EXPECT_TRUE(std::isnan(s.max_abs()));
    EXPECT_TRUE(std::isnan(s.relative_error()));
    EXPECT_TRUE(std::isnan(s.sqnr_db()));
    ErrorStats merged = stats({1, 1, 1, 1}, {2, 2, 2, 2});
    merged.merge(s);
    EXPECT_TRUE(std::isnan(merged.max_abs()));
  }
}

TEST(error_stats, refuses_unequal_sizes) {
  ErrorStats s;
  const Values values{};
  EXPECT_THROW(s.add(values, std::span(values).first(3)), Error);
}

}  // namespace
}  // namespace megamoe
