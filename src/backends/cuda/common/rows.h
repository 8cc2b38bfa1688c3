// What passes between the stages on a device: which row is whose, and which rows one GEMM tile takes.
#pragma once

#include <cstdint>

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
  std::int32_t row = 0;   // first
  std::int32_t rows = 0;  // at least 1
  std::int32_t unused = 0;
};

// All tiles of a call, in order of experts and rows. An expert's rows are cut into as few tiles of at most `max_rows` as
// there can be, all but the last of equal size, a multiple of `step`.
struct TileList {
  TokenTile* tiles = nullptr;     // [most_tiles(...)]
  std::int32_t* count = nullptr;  // [1]
  std::int32_t max_rows = 0;      // a multiple of step
  std::int32_t step = 0;
};

// However the rows fall on experts.
constexpr std::int64_t most_tiles(std::int64_t rows, std::int64_t experts, std::int64_t max_rows) {
  const std::int64_t partly_filled = rows < experts ? rows : experts;
  return partly_filled + rows / max_rows;
}

}  // namespace megamoe::cuda
