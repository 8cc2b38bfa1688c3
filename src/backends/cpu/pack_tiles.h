// NVFP4 rows into packed tiles, 32 lanes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels.h"
#include "megamoe/moe.h"

namespace megamoe::cpu {

// Where the rows of one matrix that belong to one group go: matrix row `first_row` + i to lane `first_lane` + i. All
// three are multiples of 4, as hidden and inter are multiples of 16.
struct LaneRows {
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t first_lane;
};

// Packs the rows into the lanes of a group's panel and writes every byte that belongs to these lanes, padding of K
// included. Throws kInvalidArgument for a block scale that is negative or NaN.
void pack_nvfp4_rows(const Kernels& kernels, const MatrixView& matrix, const LaneRows& which, std::byte* panel);

}  // namespace megamoe::cpu
