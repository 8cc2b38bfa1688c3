// The device's row order against the host's, and the tile lists against their definition.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <string>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/common/stages.h"
#include "megamoe/routing.h"

namespace megamoe::cuda::test {
namespace {

struct Shape {
  std::int64_t tokens;
  std::int64_t top_k;
  std::int64_t experts;
  std::int32_t max_rows = 64;
  std::int32_t step = 16;
  std::int32_t few_rows = 0, many_rows = 0;  // of lists in front and behind; 0: there is none

  std::array<std::int32_t, kTileLists> lists() const { return {few_rows, max_rows, many_rows}; }
};

using Tiles = std::array<std::vector<TokenTile>, kTileLists>;

Tiles expected_tiles(std::span<const std::int32_t> row_begin, const Shape& shape) {
  Tiles tiles;
  std::int32_t place = 0;
  for (std::size_t e = 0; e + 1 < row_begin.size(); ++e) {
    const std::int32_t rows = row_begin[e + 1] - row_begin[e];
    if (rows == 0) continue;
    const auto tiles_of = [&](std::size_t i) { return (rows + shape.lists()[i] - 1) / shape.lists()[i]; };
    const std::int32_t count = tiles_of(shape.many_rows == 0 ? 1 : 2);  // the fewest
    std::size_t list = shape.few_rows == 0 ? 1 : 0;
    while (tiles_of(list) > count) ++list;
    std::int32_t size = shape.step;  // the smallest multiple of step with which `count` tiles suffice
    while (size * count < rows) size += shape.step;
    for (std::int32_t done = 0; done < rows; done += size)
      tiles[list].push_back({static_cast<std::int32_t>(e), row_begin[e] + done, std::min(size, rows - done), place++});
  }
  return tiles;
}

void expect_tiles(const std::string& what, std::span<const TokenTile> got, std::int32_t count,
                  std::span<const TokenTile> want) {
  ASSERT_EQ(static_cast<std::size_t>(count), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got[i].expert, want[i].expert) << what << ", tile " << i;
    ASSERT_EQ(got[i].row, want[i].row) << what << ", tile " << i;
    ASSERT_EQ(got[i].rows, want[i].rows) << what << ", tile " << i;
    ASSERT_EQ(got[i].place, want[i].place) << what << ", tile " << i;
  }
  for (std::size_t i = want.size(); i < got.size(); ++i)
    ASSERT_EQ(got[i].expert, poison<std::int32_t>()) << what << ", tile " << i << " of " << want.size();
}

template <class Want>
void expect_ints(const std::string& what, std::span<const std::int32_t> got, std::span<const Want> want) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_EQ(got[i], static_cast<std::int32_t>(want[i])) << what << '[' << i << ']';
}

void check(const Shape& shape, const std::vector<std::int32_t>& ids, const std::string& how) {
  const std::string what = how + ": tokens " + std::to_string(shape.tokens) + ", top_k " + std::to_string(shape.top_k) +
                           ", experts " + std::to_string(shape.experts) + ", tiles of " +
                           std::to_string(shape.few_rows) + ", " + std::to_string(shape.max_rows) + ", " +
                           std::to_string(shape.many_rows) + " by " + std::to_string(shape.step) + ": ";
  const std::size_t choices = ids.size();
  const auto experts = static_cast<std::size_t>(shape.experts);
  const auto tile_room =
      static_cast<std::size_t>(most_tiles(static_cast<std::int64_t>(choices), shape.experts, shape.max_rows) + 3);

  std::vector<std::int32_t> valid = ids;  // the host refuses what is outside [-2, experts)
  for (std::int32_t& id : valid) id = id >= shape.experts || id < 0 ? -1 : id;
  std::vector<std::int64_t> row_begin(experts + 1);
  std::vector<std::int64_t> row_of(choices);
  std::vector<std::int64_t> choice_of(choices, poison<std::int32_t>());
  megamoe::order_rows(valid, shape.experts, row_begin, row_of, choice_of);

  const DeviceArray<std::int32_t> topk_ids(ids);
  const DeviceArray<std::int32_t> got_begin(experts + 1);
  const DeviceArray<std::int32_t> got_row_of(choices);
  const DeviceArray<std::int32_t> got_choice_of(choices);
  const std::array<DeviceArray<TokenTile>, kTileLists> tiles{
      DeviceArray<TokenTile>(experts + 3), DeviceArray<TokenTile>(tile_room), DeviceArray<TokenTile>(tile_room)};
  const DeviceArray<TokenTile> shared_tiles(tile_room);
  const DeviceArray<std::int32_t> counts(kTileLists + 1);
  const DeviceArray<std::int32_t> counters(experts + 5);
  const DeviceArray<std::byte> scratch(order_rows_scratch_bytes(shape.tokens, shape.top_k, shape.experts));
  OrderRows call;
  call.topk_ids = topk_ids.data();
  call.tokens = shape.tokens;
  call.top_k = shape.top_k;
  call.experts = shape.experts;
  call.order = {got_begin.data(), got_row_of.data(), got_choice_of.data()};
  for (std::size_t i = 0; i < kTileLists; ++i)
    if (shape.lists()[i] != 0) call.tiles.of[i] = {tiles[i].data(), counts.data() + i, shape.lists()[i], shape.step};
  call.shared_tiles = {shared_tiles.data(), counts.data() + kTileLists, shape.max_rows, shape.step};
  call.counters = counters.data();
  call.counter_count = shape.experts + 3;
  call.scratch = scratch.data();
  order_rows(call, nullptr);

  expect_ints<std::int64_t>(what + "row_begin", got_begin.host(), row_begin);
  expect_ints<std::int64_t>(what + "row_of", got_row_of.host(), row_of);
  expect_ints<std::int64_t>(what + "choice_of", got_choice_of.host(), choice_of);
  const std::vector<std::int32_t> begin32(row_begin.begin(), row_begin.end());
  const std::vector<std::int32_t> shared_begin{0, static_cast<std::int32_t>(shape.tokens)};
  const Tiles wanted = expected_tiles(begin32, shape);
  for (std::size_t i = 0; i < kTileLists; ++i)
    if (shape.lists()[i] != 0)
      expect_tiles(what + "list " + std::to_string(i), tiles[i].host(), counts.host()[i], wanted[i]);
  Shape shared = shape;
  shared.few_rows = shared.many_rows = 0;
  expect_tiles(what + "shared tiles", shared_tiles.host(), counts.host()[kTileLists],
               expected_tiles(shared_begin, shared)[1]);
  std::vector<std::int32_t> zeros(experts + 5, 0);
  zeros[experts + 3] = zeros[experts + 4] = poison<std::int32_t>();
  expect_ints<std::int32_t>(what + "counters", counters.host(), zeros);
}

// Distinct experts for each token, as a router chooses them; `skew` above 0 prefers low experts.
std::vector<std::int32_t> routed_ids(const Shape& shape, unsigned seed, double skew) {
  std::mt19937 random(seed);
  std::vector<double> weights(static_cast<std::size_t>(shape.experts));
  for (std::size_t e = 0; e < weights.size(); ++e) weights[e] = std::pow(static_cast<double>(e + 1), -skew);
  std::discrete_distribution<std::int32_t> draw(weights.begin(), weights.end());
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    const auto begin = static_cast<std::ptrdiff_t>(ids.size());
    for (std::int64_t j = 0; j < shape.top_k; ++j) {
      std::int32_t id = draw(random);
      for (int tries = 0; tries < 8 && std::find(ids.begin() + begin, ids.end(), id) != ids.end(); ++tries)
        id = draw(random);
      ids.push_back(id);
    }
  }
  return ids;
}

void check_all_routings(const Shape& shape) {
  const auto choices = static_cast<std::size_t>(shape.tokens * shape.top_k);
  const auto seed = static_cast<unsigned>(shape.tokens * 1000 + shape.top_k * 10 + shape.experts);
  const std::vector<std::int32_t> ids = routed_ids(shape, seed, 0.0);
  check(shape, ids, "uniform");
  check(shape, routed_ids(shape, seed, 1.0), "skewed");
  check(shape, std::vector<std::int32_t>(choices, static_cast<std::int32_t>(shape.experts - 1)), "one expert");
  check(shape, std::vector<std::int32_t>(choices, kDroppedExpert), "all dropped");
  std::vector<std::int32_t> mixed = ids;
  constexpr std::array<std::int32_t, 5> kNoRow{-1, -2, -3, INT32_MIN, INT32_MAX};
  for (std::size_t i = 0; i < choices; i += 3) mixed[i] = kNoRow[i % kNoRow.size()];
  if (choices > 1) mixed[1] = static_cast<std::int32_t>(shape.experts);
  check(shape, mixed, "mixed with ids that have no row");
}

class OrderRowsOnDevice : public OnDevice {};

TEST_F(OrderRowsOnDevice, small_batches_are_ordered_as_on_the_host) {
  for (const std::int64_t tokens : {0, 1, 2, 3, 7, 32, 33, 64})
    for (const std::int64_t experts : {1, 2, 31, 128, 256, 512, 1000})
      for (const std::int64_t top_k : {1, 8})
        if (top_k <= experts) check_all_routings({tokens, top_k, experts});
}

TEST_F(OrderRowsOnDevice, large_batches_are_ordered_as_on_the_host) {
  for (const std::int64_t tokens : {257, 342, 1000, 8192})
    for (const std::int64_t experts : {1, 60, 256, 512, 1000})
      for (const std::int64_t top_k : {1, 6, 8})
        if (top_k <= experts) {
          check_all_routings({tokens, top_k, experts, 256, 32});
          check_all_routings({tokens, top_k, experts, 240, 8, 128});
          check_all_routings({tokens, top_k, experts, 48, 8, 0, 128});
          check_all_routings({tokens, top_k, experts, 128, 8, 48, 304});
        }
}

TEST_F(OrderRowsOnDevice, blocks_of_more_choices_than_usual) { check_all_routings({20'000, 8, 256, 128, 8, 48, 304}); }

TEST_F(OrderRowsOnDevice, tiles_of_every_number_of_rows) {
  for (std::int64_t tokens = 0; tokens <= 300; tokens += 7) {
    check_all_routings({tokens, 1, 3, 8, 8});
    check_all_routings({tokens, 1, 3, 48, 16});
    check_all_routings({tokens, 1, 3, 32, 8, 16, 48});
    check_all_routings({tokens, 1, 3, 24, 8, 16, 32});
  }
}

TEST_F(OrderRowsOnDevice, more_experts_than_shared_memory_holds) {
  for (const std::int64_t experts : {5'000, 13'000, 40'000, 70'001})
    for (const std::int64_t tokens : {1, 100, 2000}) check_all_routings({tokens, 8, experts});
}

TEST_F(OrderRowsOnDevice, tiles_that_nobody_wants_are_not_written) {
  const DeviceArray<std::int32_t> topk_ids(std::vector<std::int32_t>{2, 0, 1});
  const DeviceArray<std::int32_t> out(20);
  OrderRows call;
  call.topk_ids = topk_ids.data();
  call.tokens = 3;
  call.top_k = 1;
  call.experts = 3;
  call.order = {out.data(), out.data() + 4, out.data() + 7};
  order_rows(call, nullptr);
  const std::vector<std::int32_t> got = out.host();
  const std::vector<std::int32_t> want{0, 1, 2, 3, 2, 0, 1, 1, 2, 0};
  EXPECT_TRUE(std::equal(want.begin(), want.end(), got.begin()));
}

}  // namespace
}  // namespace megamoe::cuda::test
