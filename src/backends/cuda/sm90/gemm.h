// One grouped GEMM as both loops (stream_gemm.cuh, tile_gemm.cuh) take it: which weights meet which rows, and where the
// result goes. All pointers are device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/common/rows.h"
#include "backends/cuda/common/stages.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "megamoe/moe.h"

namespace megamoe::sm90 {

inline constexpr int kOwnOrderChoices = 32;

enum class GemmKind : std::uint8_t {
  kGateUp,  // gate|up, activation, rounding: [rows, hidden] -> h [rows, inter]
  kDown,    // [rows, inter] -> y [rows, hidden]
};

// Packed weights of all experts (packed_weight.h).
struct GemmWeights {
  const std::byte* packed = nullptr;
  std::int64_t expert_bytes = 0;  // from one expert's matrix to the next's
  const float* scale[2] = {};     // [experts], gate (or down) and up
  const float* bias[2] = {};      // [experts, channels], the same; nullptr: none
  std::int32_t panels = 0;
  std::int32_t channels = 0;  // inter for kGateUp, hidden for kDown
  std::int32_t k = 0;
};

// Rows that the blocks of the tile loop bring into tiles while they multiply (tile_gather.cuh). The tiles lie in a
// ring: the i-th of the list at i % ring, where it stays until all who multiply it have read it.
struct RowGather {
  const std::uint16_t* from = nullptr;  // [*, k], as Gemm::x of the streaming loop; at most 2^35 elements
  std::uint16_t* to = nullptr;          // [ring, tiled_columns(max_rows), tiled_k(k)]
  std::int32_t* claims = nullptr;       // [2]; zero before the launch, as is
  std::int32_t* ready = nullptr;        // [places of tiles, gather_chunks(k)] pieces that are there, and who has read
  std::int32_t ring = 0;                // tiles; launch() sets both
  std::int32_t first_tiles = 0;         // that blocks begin with
};
inline constexpr int kGatherPiece = 8;   // columns that a warp brings at a time
inline constexpr int kGatherSteps = 8;   // of 64 K, a chunk: of what is ready
inline constexpr int kGatherChunks = 4;  // that a warp brings at a time, but of the first tiles
MEGAMOE_HD constexpr std::int64_t gather_chunks(std::int64_t k) { return ceil_div(steps_of(k), kGatherSteps); }

struct Gemm {
  GemmWeights weights;

  // Columns of the product, bf16. Streaming loop: [*, k], row r of x or with gather_top_k the token of row r. Tile
  // loop: the rows' tiles (common/rows.h), where there is nothing to gather.
  const std::uint16_t* x = nullptr;
  const float* x_scale = nullptr;  // of row r, or with gather_top_k of the token of row r; nullptr: 1
  std::int32_t gather_top_k = 0;
  const std::int32_t* choice_of = nullptr;  // [rows]; nullptr where rows are tokens
  RowGather gather;                         // tile loop
  cuda::TileList tiles;
  bool tiles_are_ready = false;  // the list, or own_ids, were written before the launch in front of this one began
  // Tile loop: this launch may begin before those in front have ended, which work on other tiles of the same rows, or
  // whose tiles are waited for one by one (`finished`). It waits for their end before it ends itself: who waits for
  // this one has waited for all.
  bool beside_previous = false;
  // Tile loop: kGateUp counts the items that it has finished of each tile, and kDown begins with a tile when all are.
  // Zero before kGateUp; nullptr: nobody counts, and kDown waits for the whole launch.
  std::int32_t* finished = nullptr;  // [places of tiles]
  std::int32_t finished_panels = 0;  // kDown: of kGateUp
  // Streaming loop, at most kOwnOrderChoices of them: each block orders the rows of these ids [choices] by itself. No
  // list, no choice_of, no claims.
  const std::int32_t* own_ids = nullptr;
  std::int32_t own_choices = 0;
  std::int32_t own_experts = 0;
  // And this launch writes the order for those two launches behind, and sets their counters to zero; topk_ids nullptr:
  // it does not.
  cuda::OrderRows order_here;

  // Claims of work items, and in the streaming loop the arrivals of a tile's parts; zero before the launch.
  std::int32_t* claims = nullptr;    // [1]
  std::int32_t* arrivals = nullptr;  // [tiles * panels * kPanelWarps]
  float* partials = nullptr;         // of tiles * panels * kPanelThreads threads [parts, blocks of 8 rows, 4]
  std::int32_t parts = 1;            // of K (streaming loop)

  // The result. h has one of the three; y is [parts, part_rows, channels], or y_bf16 is given and there is one part.
  Activation activation;
  const float* row_weight = nullptr;  // [choices]: multiplies h, or y's bias; nullptr: 1
  std::uint16_t* h_bf16 = nullptr;    // [rows, channels]
  std::uint16_t* h_tiles = nullptr;   // tiles of the rows, for the tile loop
  float* h_f32 = nullptr;             // [rows, channels]
  float* y = nullptr;
  std::int64_t part_rows = 0;
  std::uint16_t* y_bf16 = nullptr;  // [rows, channels]
};

}  // namespace megamoe::sm90
