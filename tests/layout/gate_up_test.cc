#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "golden/golden_file.h"
#include "megamoe/error.h"
#include "megamoe/layout.h"

namespace megamoe {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes numbered(std::size_t count) {
  Bytes bytes(count);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  return bytes;
}

TEST(gate_up, worked_examples) {
  static_assert(gate_up_row({GateUpHalf::kGate, 9}, {8}) == 17);
  static_assert(gate_up_row({GateUpHalf::kUp, 9}, {8}) == 25);
  static_assert(gate_up_row({GateUpHalf::kGate, 9}, {8, GateUpOrder::kUpFirst}) == 25);
  static_assert(gate_up_row({GateUpHalf::kUp, 5}, {16}) == 21);  // block = inter: the plain stack
  static_assert(gate_up_row({GateUpHalf::kUp, 5}, {1}) == 11);   // row by row
}

TEST(gate_up, is_a_bijection_for_every_block_and_order) {
  for (const std::int64_t inter : {1, 16, 48, 96})
    for (std::int64_t block = 1; block <= inter; ++block) {
      if (inter % block != 0) continue;
      for (const GateUpOrder order : {GateUpOrder::kGateFirst, GateUpOrder::kUpFirst}) {
        std::vector<int> hits(static_cast<std::size_t>(2 * inter), 0);
        for (const GateUpHalf half : {GateUpHalf::kGate, GateUpHalf::kUp})
          for (std::int64_t i = 0; i < inter; ++i) {
            const std::int64_t n = gate_up_row({half, i}, {block, order});
            ++hits.at(static_cast<std::size_t>(n));
            ASSERT_EQ(gate_up_at(n, {block, order}), (GateUpRow{half, i}));
          }
        for (const int hit : hits) ASSERT_EQ(hit, 1);
      }
    }
}

TEST(gate_up, golden_bytes_along_the_last_axis_and_back) {
  const test::GoldenFile golden;
  const Shape shape = golden.view("interleave.in").shape;  // (E, K/2, N), interleaved along N in blocks of 8
  const Bytes in = golden.bytes("interleave.in");
  Bytes out(in.size(), 0x7F);
  interleave_gate_up(in, shape[0] * shape[1], shape[2] / 2, 1, {8}, out);
  EXPECT_EQ(out, golden.bytes("interleave.out"));
  Bytes back(in.size());
  deinterleave_gate_up(out, shape[0] * shape[1], shape[2] / 2, 1, {8}, back);
  EXPECT_EQ(back, in);
}

TEST(gate_up, moves_whole_rows_of_every_expert) {
  const std::int64_t experts = 3;
  const std::int64_t inter = 6;
  const std::int64_t row_bytes = 5;
  const Bytes in = numbered(static_cast<std::size_t>(experts * 2 * inter * row_bytes));
  for (const GateUpOrder order : {GateUpOrder::kGateFirst, GateUpOrder::kUpFirst})
    for (const std::int64_t block : {1, 2, 3, 6}) {
      Bytes out(in.size());
      interleave_gate_up(in, experts, inter, row_bytes, {block, order}, out);
      for (std::int64_t e = 0; e < experts; ++e)
        for (std::int64_t n = 0; n < 2 * inter; ++n) {
          const GateUpRow row = gate_up_at(n, {block, order});
          const std::int64_t from = row.index + (row.half == GateUpHalf::kUp ? inter : 0);
          for (std::int64_t b = 0; b < row_bytes; ++b)
            ASSERT_EQ(out[static_cast<std::size_t>((e * 2 * inter + n) * row_bytes + b)],
                      in[static_cast<std::size_t>((e * 2 * inter + from) * row_bytes + b)]);
        }
      Bytes back(in.size());
      deinterleave_gate_up(out, experts, inter, row_bytes, {block, order}, back);
      ASSERT_EQ(back, in);
    }
}

TEST(gate_up, refuses_blocks_that_do_not_divide_and_wrong_sizes) {
  const Bytes in(24);
  Bytes out(24, 0x7F);
  EXPECT_THROW(interleave_gate_up(in, 1, 12, 1, {5}, out), Error);
  EXPECT_THROW(interleave_gate_up(in, 1, 12, 1, {0}, out), Error);
  EXPECT_THROW(interleave_gate_up(in, 1, 12, 2, {4}, out), Error);
  EXPECT_THROW(deinterleave_gate_up(in, 2, 12, 1, {4}, out), Error);
  EXPECT_EQ(out, Bytes(24, 0x7F));
}

}  // namespace
}  // namespace megamoe
