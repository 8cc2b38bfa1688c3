// Offsets to tiles against order_rows' definition of them, and NVFP4 rows to bf16 against the formats.
#include <gtest/gtest.h>

#include <algorithm>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/common/stages.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "support/random.h"

namespace megamoe::cuda::test {
namespace {

using megamoe::test::Random;

struct Given {
  std::vector<std::int32_t> offsets;
  std::int32_t rows;
  std::vector<std::int32_t> row_begin;  // wanted, [experts + 1]
};

// few_rows 0: no list of experts with few rows.
void check(const Given& given, std::int32_t max_rows, std::int32_t step, std::int32_t few_rows = 0) {
  const auto experts = static_cast<std::int64_t>(given.offsets.size());
  const DeviceArray<std::int32_t> offsets(given.offsets);
  const DeviceArray<std::int32_t> row_begin(given.row_begin.size()), count(2), counters(3);
  const DeviceArray<TokenTile> tiles(static_cast<std::size_t>(most_tiles(given.rows, experts, max_rows)));
  const DeviceArray<TokenTile> few_tiles(static_cast<std::size_t>(experts));
  TileLists lists{.of = {{}, {.tiles = tiles.data(), .count = count.data(), .max_rows = max_rows, .step = step}}};
  if (few_rows != 0)
    lists.of[0] = {.tiles = few_tiles.data(), .count = count.data() + 1, .max_rows = few_rows, .step = step};
  take_offsets({.expert_offsets = offsets.data(),
                .experts = experts,
                .rows = given.rows,
                .tiles = lists,
                .row_begin = row_begin.data(),
                .counters = counters.data(),
                .counter_count = 2},
               nullptr);
  EXPECT_EQ(row_begin.host(), given.row_begin);
  EXPECT_EQ(counters.host(), (std::vector<std::int32_t>{0, 0, poison<std::int32_t>()}));
  const std::vector<TokenTile> got = tiles.host(), got_few = few_tiles.host();
  std::size_t tile = 0, few = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int32_t begin = given.row_begin[static_cast<std::size_t>(e)];
    const std::int32_t rows = given.row_begin[static_cast<std::size_t>(e) + 1] - begin;
    if (0 < rows && rows <= few_rows) {  // rows that few_rows and max_rows cut into as many tiles do not occur
      ASSERT_EQ(got_few[few].expert, e) << "tile " << few << " of few";
      ASSERT_EQ(got_few[few].row, begin) << "tile " << few << " of few";
      ASSERT_EQ(got_few[few].rows, rows) << "tile " << few << " of few";
      ASSERT_EQ(got_few[few].place, static_cast<std::int32_t>(tile + few)) << "tile " << few << " of few";
      ++few;
      continue;
    }
    const std::int32_t cuts = (rows + max_rows - 1) / max_rows;
    const std::int32_t size = cuts == 0 ? 0 : ((rows + cuts - 1) / cuts + step - 1) / step * step;
    for (std::int32_t done = 0; done < rows; done += size, ++tile) {
      ASSERT_LT(tile, got.size());
      ASSERT_EQ(got[tile].expert, e) << "tile " << tile;
      ASSERT_EQ(got[tile].row, begin + done) << "tile " << tile;
      ASSERT_EQ(got[tile].rows, std::min(size, rows - done)) << "tile " << tile;
      ASSERT_EQ(got[tile].place, static_cast<std::int32_t>(tile + few)) << "tile " << tile;
    }
  }
  EXPECT_EQ(count.host()[0], static_cast<std::int32_t>(tile));
  if (few_rows != 0) {
    EXPECT_EQ(count.host()[1], static_cast<std::int32_t>(few));
  }
}

class take_offsets_kernel : public OnDevice {};

TEST_F(take_offsets_kernel, gives_first_rows_and_tiles) {
  check({{3, 3, 10}, 10, {0, 3, 3, 10}}, 8, 8);
  check({{0, 0, 0}, 5, {0, 0, 0, 0}}, 8, 8);
  check({{700}, 700, {0, 700}}, 64, 16);
  check({{100, 103, 353, 393}, 400, {0, 100, 103, 353, 393}}, 304, 16);
  check({{100, 103, 353, 393}, 400, {0, 100, 103, 353, 393}}, 64, 8, 48);
}

TEST_F(take_offsets_kernel, takes_more_experts_than_a_block_has_threads) {
  Random random(5);
  Given given{.offsets = {}, .rows = 0, .row_begin = {0}};
  for (int e = 0; e < 3000; ++e) {
    given.rows += static_cast<std::int32_t>(random.below(40));
    given.offsets.push_back(given.rows);
    given.row_begin.push_back(given.rows);
  }
  check(given, 16, 8);
  check(given, 32, 8, 16);
}

TEST_F(take_offsets_kernel, gives_no_row_twice_and_none_beyond) {
  check({{20, -5, 1000, 7}, 40, {0, 20, 20, 40, 40}}, 8, 8);
  check({{-1, 50, 50}, 40, {0, 0, 40, 40}}, 8, 8);
}

TEST_F(take_offsets_kernel, decoded_rows_are_exact_and_have_their_experts_scale) {
  constexpr std::int64_t kRows = 21, kCols = 48;
  const std::vector<std::int32_t> begins{0, 0, 9, 9, 20};  // the last row is nobody's
  const std::vector<float> scales{3.0f, 0.5f, 7.0f, 0.25f};
  Random random(1);
  std::vector<std::uint8_t> codes(kRows * kCols / 2), sf(kRows * kCols / 16);
  for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random.bits());
  for (std::uint8_t& byte : sf) byte = static_cast<std::uint8_t>(random.below(0x7F));
  const DeviceArray<std::uint8_t> device_codes(codes), device_sf(sf);
  const DeviceArray<std::int32_t> row_begin(begins);
  const DeviceArray<float> expert_scale(scales), global_scale(kRows);
  const DeviceArray<std::uint16_t> values(kRows * kCols);
  DecodeRows call{.codes = device_codes.data(),
                  .sf = device_sf.data(),
                  .rows = kRows,
                  .cols = kCols,
                  .expert_scale = expert_scale.data(),
                  .row_begin = row_begin.data(),
                  .experts = 4,
                  .values = values.data(),
                  .global_scale = global_scale.data()};
  decode_rows(call, nullptr);
  const std::vector<std::uint16_t> got = values.host();
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    const unsigned code = codes[static_cast<std::size_t>(i / 2)] >> (i % 2 * 4) & 15u;
    const float want =
        e2m1_to_float(static_cast<std::uint8_t>(code)) * e4m3_to_float(sf[static_cast<std::size_t>(i / 16)]);
    ASSERT_TRUE(same_number(bf16_to_float(got[static_cast<std::size_t>(i)]), want)) << "element " << i;
  }
  const std::vector<float> of_row = global_scale.host();
  for (std::size_t row = 0; row < 20; ++row) ASSERT_EQ(of_row[row], row < 9 ? 0.5f : 0.25f) << "row " << row;
  call.expert_scale = nullptr;
  decode_rows(call, nullptr);
  for (const float scale : global_scale.host()) ASSERT_EQ(scale, 1.0f);
}

}  // namespace
}  // namespace megamoe::cuda::test
