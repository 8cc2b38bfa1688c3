#include <algorithm>

#include "layout/size_check.h"
#include "megamoe/layout.h"

namespace megamoe {
namespace {

// Calls copy(row of the stack, row of the interleaved form, rows) for each run of rows that stay together.
template <class Copy>
void for_each_run(std::int64_t outer, std::int64_t inter, GateUpLayout layout, Copy copy) {
  for (std::int64_t o = 0; o < outer; ++o)
    for (const GateUpHalf half : {GateUpHalf::kGate, GateUpHalf::kUp})
      for (std::int64_t i = 0; i < inter; i += layout.block) {
        const std::int64_t base = o * 2 * inter;
        const std::int64_t in_stack = i + (half == GateUpHalf::kUp ? inter : 0);
        copy(base + in_stack, base + gate_up_row({half, i}, layout), layout.block);
      }
}

void check(std::size_t stacked, std::size_t interleaved, std::int64_t outer, std::int64_t inter, std::int64_t row_bytes,
           GateUpLayout layout) {
  if (layout.block < 1 || inter % layout.block != 0)
    throw Error(Code::kInvalidArgument, "gate/up interleave: asked blocks of ", layout.block,
                " rows, accepted: divisors of ", inter);
  require_layout_bytes("stacked gate and up", stacked, outer * 2 * inter * row_bytes);
  require_layout_bytes("interleaved gate and up", interleaved, outer * 2 * inter * row_bytes);
}

}  // namespace

void interleave_gate_up(std::span<const std::uint8_t> stacked, std::int64_t outer, std::int64_t inter,
                        std::int64_t row_bytes, GateUpLayout layout, std::span<std::uint8_t> interleaved) {
  check(stacked.size(), interleaved.size(), outer, inter, row_bytes, layout);
  for_each_run(outer, inter, layout, [&](std::int64_t from, std::int64_t to, std::int64_t rows) {
    std::copy_n(stacked.data() + from * row_bytes, rows * row_bytes, interleaved.data() + to * row_bytes);
  });
}

void deinterleave_gate_up(std::span<const std::uint8_t> interleaved, std::int64_t outer, std::int64_t inter,
                          std::int64_t row_bytes, GateUpLayout layout, std::span<std::uint8_t> stacked) {
  check(stacked.size(), interleaved.size(), outer, inter, row_bytes, layout);
  for_each_run(outer, inter, layout, [&](std::int64_t to, std::int64_t from, std::int64_t rows) {
    std::copy_n(interleaved.data() + from * row_bytes, rows * row_bytes, stacked.data() + to * row_bytes);
  });
}

}  // namespace megamoe
