// What passes between the stages on a device: which row is whose, and which rows one GEMM tile takes.
#pragma once

#include <cstdint>

#include "megamoe/host_device.h"

namespace megamoe::cuda {

// Rows ordered by expert; within an expert in ascending order of choice (token * top_k + j), as on the CPU.
struct RowOrder {
  std::int32_t* row_begin = nullptr;  // [experts + 1]; the last is the number of rows
  std::int32_t* row_of = nullptr;     // [tokens * top_k]; -1: dropped or poisoned
  std::int32_t* choice_of = nullptr;  // [rows]
};

// Consecutive rows of one expert that one GEMM tile takes as its columns.
struct alignas(16) TokenTile {
  std::int32_t expert = 0;
  std::int32_t row = 0;    // first
  std::int32_t rows = 0;   // at least 1
  std::int32_t place = 0;  // among all tiles of the call, in order of rows
};

// Tiles in order of experts and rows. An expert's rows are cut into as few tiles of at most `max_rows` as there can be,
// all but the last of equal size, a multiple of `step`.
struct TileList {
  TokenTile* tiles = nullptr;     // [most]
  std::int32_t* count = nullptr;  // [1]
  std::int32_t max_rows = 0;      // a multiple of step
  std::int32_t step = 0;
  std::int32_t most = 0;  // most_tiles(...) of the call
};

// All tiles of a call, in lists for different kernels: with max_rows ascending, those without an array left out. An
// expert's rows go into the first list that needs no more tiles for them than the last one would.
inline constexpr int kTileLists = 3;
struct TileLists {
  TileList of[kTileLists];
};

// Activations as the tile loop of a GEMM copies them: for each tile of tokens and each 64 K one contiguous block, the
// tile's columns of 128 bytes in the order in which wgmma reads them (128-byte swizzle, PTX ISA 9.7.15.5.1.2): of
// column c, the 16 bytes of k 8p .. 8p+7 lie at piece p ^ (c % 8). Columns are padded to 16 with anything, K to 64 with
// zeros.
inline constexpr int kTiledK = 64;
inline constexpr int kTiledColumns = 16;

MEGAMOE_HD constexpr std::int64_t tiled_columns(std::int64_t rows) {
  return (rows + kTiledColumns - 1) / kTiledColumns * kTiledColumns;
}
MEGAMOE_HD constexpr std::int64_t tiled_k(std::int64_t k) { return (k + kTiledK - 1) / kTiledK * kTiledK; }

// Where a tile's block begins, in columns of tiled_k(k) elements. Blocks are spread a little, so that each is known
// without a sum over the tiles before it: both roundings to 16 together take less than 32.
MEGAMOE_HD constexpr std::int64_t tiled_begin(const TokenTile& tile) {
  return tiled_columns(tile.row) + std::int64_t{2 * kTiledColumns} * tile.place;
}
// Columns that all tiles of a list take.
constexpr std::int64_t tiled_size(std::int64_t rows, std::int64_t tiles) {
  return tiled_columns(rows) + 2 * kTiledColumns * (tiles + 1);
}

// Element of column c and k, from the start of its tile's block.
MEGAMOE_HD constexpr std::int64_t tiled_at(std::int64_t tile_columns, std::int64_t c, std::int64_t k) {
  const std::int64_t piece = k % kTiledK / 8 ^ c % 8;
  return k / kTiledK * tile_columns * kTiledK + c * kTiledK + piece * 8 + k % 8;
}

// However the rows fall on experts.
constexpr std::int64_t most_tiles(std::int64_t rows, std::int64_t experts, std::int64_t max_rows) {
  const std::int64_t partly_filled = rows < experts ? rows : experts;
  return partly_filled + rows / max_rows;
}

}  // namespace megamoe::cuda
