// Cuts experts' rows into tiles (rows.h).
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

// Numbers of rows, and of tiles in each list: one scan sums all.
struct RowsAndTiles {
  std::int32_t rows;
  std::int32_t tiles[kTileLists];
};
struct AddRowsAndTiles {
  __device__ RowsAndTiles operator()(RowsAndTiles a, const RowsAndTiles& b) const {
    a.rows += b.rows;
#pragma unroll
    for (int i = 0; i < kTileLists; ++i) a.tiles[i] += b.tiles[i];
    return a;
  }
};

// Lists are looked at in unrolled loops, where they lie: in registers or constants.
__device__ inline TileList list_at(const TileLists& lists, int index) {
  TileList list;
#pragma unroll
  for (int i = 0; i < kTileLists; ++i)
    if (i == index) list = lists.of[i];
  return list;
}

// Which list takes an expert's rows.
__device__ inline int taker_of(std::int32_t rows, const TileLists& lists) {
  int taker = 0;
  std::int32_t fewest = 0;  // tiles; of the last list, which comes first here
#pragma unroll
  for (int i = kTileLists - 1; i >= 0; --i) {
    if (lists.of[i].tiles == nullptr) continue;
    const std::int32_t tiles = cut_rows(rows, lists.of[i]).tiles;
    if (fewest == 0) fewest = tiles;
    if (tiles <= fewest) taker = i;
  }
  return taker;
}

__device__ inline RowsAndTiles rows_and_tiles(std::int32_t rows, const TileLists& lists) {
  RowsAndTiles sums{.rows = rows, .tiles = {}};
  const int taker = taker_of(rows, lists);
#pragma unroll
  for (int i = 0; i < kTileLists; ++i)
    if (i == taker) sums.tiles[i] = cut_rows(rows, lists.of[i]).tiles;
  return sums;
}

__device__ inline void write_tile(const TileList& list, std::int32_t first_tile, std::int32_t first_place,
                                  std::int32_t index, std::int32_t expert, std::int32_t first_row, std::int32_t rows,
                                  std::int32_t size) {
  const std::int32_t row = index * size;
  list.tiles[first_tile + index] = {expert, first_row + row, min(size, rows - row), first_place + index};
}

// Of all experts before this one: `before`. A thread writes the first tiles of its expert; the whole warp writes the
// rest of those that have many.
__device__ inline void write_tiles(const TileLists& lists, std::int32_t expert, std::int32_t rows,
                                   const RowsAndTiles& before) {
  const int taker = taker_of(rows, lists);
  const TileList list = list_at(lists, taker);
  const Cut cut = cut_rows(rows, list);
  const std::int32_t first_row = before.rows;
  std::int32_t first_tile = 0;
  std::int32_t first_place = 0;
#pragma unroll
  for (int i = 0; i < kTileLists; ++i) {
    if (i == taker) first_tile = before.tiles[i];
    first_place += before.tiles[i];
  }
  for (std::int32_t i = 0; i < min(cut.tiles, kOwnTiles); ++i)
    write_tile(list, first_tile, first_place, i, expert, first_row, rows, cut.size);
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x) % kWarp;
  for (unsigned many = __ballot_sync(~0u, cut.tiles > kOwnTiles); many != 0; many &= many - 1) {
    const int owner = __ffs(static_cast<int>(many)) - 1;
    const std::int32_t its_tiles = __shfl_sync(~0u, cut.tiles, owner);
    const std::int32_t its_size = __shfl_sync(~0u, cut.size, owner);
    const std::int32_t its_expert = __shfl_sync(~0u, expert, owner);
    const std::int32_t its_row = __shfl_sync(~0u, first_row, owner);
    const std::int32_t its_rows = __shfl_sync(~0u, rows, owner);
    const TileList its_list = list_at(lists, __shfl_sync(~0u, taker, owner));
    const std::int32_t its_tile = __shfl_sync(~0u, first_tile, owner);
    const std::int32_t its_place = __shfl_sync(~0u, first_place, owner);
    for (std::int32_t i = kOwnTiles + lane; i < its_tiles; i += kWarp)
      write_tile(its_list, its_tile, its_place, i, its_expert, its_row, its_rows, its_size);
  }
}

}  // namespace megamoe::cuda
