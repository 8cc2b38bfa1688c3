// How the gate and up rows of a gated expert are interleaved along N = 2 * inter.
//
// Blocks of `block` gate rows and `block` up rows alternate, so that a kernel holds both halves of a pair at once:
//   row of gate i = 2 * block * (i / block) + i % block                 (gate first)
//   row of up   i = that + block
// block = 1 alternates row by row (gpt-oss), block = inter is the plain stack [gate; up] of HF checkpoints. `block`
// must divide inter. Rows of block scales move with their rows, before any swizzle.
#pragma once

#include <cstdint>

#include "megamoe/host_device.h"

namespace megamoe {

enum class GateUpHalf : std::uint8_t { kGate, kUp };
enum class GateUpOrder : std::uint8_t { kGateFirst, kUpFirst };

struct GateUpLayout {
  std::int64_t block;
  GateUpOrder order = GateUpOrder::kGateFirst;
};

struct GateUpRow {
  GateUpHalf half;
  std::int64_t index;  // 0 .. inter - 1

  friend constexpr bool operator==(const GateUpRow&, const GateUpRow&) = default;
};

// Where row `index` of a half lies.
MEGAMOE_HD constexpr std::int64_t gate_up_row(GateUpRow row, GateUpLayout layout) {
  const bool second = (row.half == GateUpHalf::kUp) == (layout.order == GateUpOrder::kGateFirst);
  return row.index / layout.block * (2 * layout.block) + row.index % layout.block + (second ? layout.block : 0);
}

// The inverse: what lies in row n.
MEGAMOE_HD constexpr GateUpRow gate_up_at(std::int64_t n, GateUpLayout layout) {
  const bool second = n % (2 * layout.block) >= layout.block;
  const bool up = second == (layout.order == GateUpOrder::kGateFirst);
  return {up ? GateUpHalf::kUp : GateUpHalf::kGate, n / (2 * layout.block) * layout.block + n % layout.block};
}

}  // namespace megamoe
