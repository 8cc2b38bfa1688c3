// Cuts experts' rows into the tiles of a TileList (rows.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backends/cuda/common/rows.h"

namespace megamoe::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kOwnTiles = 4;  // tiles of an expert that one thread writes by itself

struct Cut {  // of one expert's rows into tiles
  std::int32_t tiles;
  std::int32_t size;
};

__device__ inline Cut cut_rows(std::int32_t rows, const TileList& list) {
  if (list.tiles == nullptr || rows == 0) return {0, 0};
  const std::int32_t tiles = (rows + list.max_rows - 1) / list.max_rows;
  const std::int32_t even = (rows + tiles - 1) / tiles;
  return {tiles, (even + list.step - 1) / list.step * list.step};
}

__device__ inline void write_tile(const TileList& list, std::int32_t at, std::int32_t index, std::int32_t expert,
                                  std::int32_t first_row, std::int32_t rows, std::int32_t size) {
  const std::int32_t row = index * size;
  list.tiles[at + index] = {expert, first_row + row, min(size, rows - row), 0};
}

// A thread writes the first tiles of its expert; the whole warp writes the rest of those that have many.
__device__ inline void write_tiles(const TileList& list, std::int32_t expert, std::int32_t first_row, std::int32_t rows,
                                   std::int32_t first_tile) {
  const Cut cut = cut_rows(rows, list);
  for (std::int32_t i = 0; i < min(cut.tiles, kOwnTiles); ++i)
    write_tile(list, first_tile, i, expert, first_row, rows, cut.size);
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x) % kWarp;
  for (unsigned many = __ballot_sync(~0u, cut.tiles > kOwnTiles); many != 0; many &= many - 1) {
    const int owner = __ffs(static_cast<int>(many)) - 1;
    const std::int32_t its_tiles = __shfl_sync(~0u, cut.tiles, owner);
    const std::int32_t its_size = __shfl_sync(~0u, cut.size, owner);
    const std::int32_t its_expert = __shfl_sync(~0u, expert, owner);
    const std::int32_t its_row = __shfl_sync(~0u, first_row, owner);
    const std::int32_t its_rows = __shfl_sync(~0u, rows, owner);
    const std::int32_t at = __shfl_sync(~0u, first_tile, owner);
    for (std::int32_t i = kOwnTiles + lane; i < its_tiles; i += kWarp)
      write_tile(list, at, i, its_expert, its_row, its_rows, its_size);
  }
}

// Sums of rows in the low half and of tiles in the high half: one scan does both.
__device__ inline std::uint64_t rows_and_tiles(std::int32_t rows, std::int32_t tiles) {
  return static_cast<std::uint64_t>(tiles) << 32 | static_cast<std::uint32_t>(rows);
}

}  // namespace megamoe::cuda
