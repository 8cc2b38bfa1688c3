// The gathering warps of the tile loop: rows of x into tiles (common/rows.h), while the block multiplies.
//
// Tokens have to be in order before a bulk copy can bring them to wgmma, and a launch of its own for that writes and
// reads them at the speed of the memory while the tensor cores idle: 4 to 8 % of a large batch. Here two warps of each
// block do it, a few tiles ahead of the products. A unit of work is (tile, kGatherSteps of 64 K, kGatherRows
// columns), claimed in that order. Whoever is done adds its pieces of kGatherPiece columns to the counter of (tile,
// steps); the scout waits for all of a tile's. Before the first tiles are there nobody can multiply, so that all warps
// of the device take a piece of these, of which there are about as many.
//
// Claims are dynamic, and a warp that has a unit waits for nobody but earlier units: so the call comes to its end
// however few of its blocks the device holds at a time.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/source_row.cuh"

namespace megamoe::sm90 {

static_assert(cuda::kTiledColumns % kGatherPiece == 0 && kGatherRows % kGatherPiece == 0);

// Pieces of a tile and some steps.
__device__ __forceinline__ int gather_pieces(std::int32_t rows) {
  return static_cast<int>(cuda::tiled_columns(rows)) / kGatherPiece;
}

__device__ __forceinline__ bool gathers(const Gemm& gemm) { return gemm.gather.from != nullptr; }

// Until others have counted up to `enough` what bulk copies of this block are about to read.
__device__ __forceinline__ void wait_for_counter(const std::int32_t* counter, int enough) {
  while (ptx::load_acquire(counter) < enough) __nanosleep(100);
  ptx::fence_async_global();
}

// All lanes of a warp: until all rows of a tile are in memory.
__device__ __forceinline__ void wait_for_rows(const Gemm& gemm, const cuda::TokenTile& tile, int lane) {
  const int pieces = gather_pieces(tile.rows);
  const int chunks = static_cast<int>(gather_chunks(gemm.weights.k));
  for (int chunk = lane; chunk < chunks; chunk += 32)
    wait_for_counter(gemm.gather.ready + tile.place * chunks + chunk, pieces);
  __syncwarp();
}

// Columns [first, end) of a tile, and the chunk-th kGatherSteps of 64 K. Columns past the tile's rows, up to the next
// multiple of 16, repeat the last row: they are multiplied too, and numbers of a common size take the epilogue's short
// way. InFlight: loads of a lane, four registers each.
template <int InFlight, bool kLooksAhead>
__device__ __forceinline__ void gather_columns(const Gemm& gemm, const cuda::TokenTile& tile,
                                               const cuda::TokenTile& next, int chunk, int first, int end, int lane) {
  static_assert(kGatherSteps % InFlight == 0);
  constexpr int kLineLanes = 8;  // bring the 128 bytes of a column and a step
  constexpr int kRowsAtOnce = 32 / kLineLanes;
  const int columns = static_cast<int>(cuda::tiled_columns(tile.rows));
  const int k = gemm.weights.k;
  const int steps = min(kGatherSteps, static_cast<int>(steps_of(k)) - chunk * kGatherSteps);
  // This lane's 16 bytes of a step.
  const int k_begin = chunk * kGatherSteps * kTileK + lane % kLineLanes * 8;
  // A lane knows the row of one column.
  const auto source = [&](const cuda::TokenTile& of) {
    return source_row(gemm, nullptr, of.row + min(min(first + lane, end - 1), of.rows - 1));
  };
  const int row = source(tile);
  if constexpr (kLooksAhead) {
    // What some warp will ask for soon, these rows' next steps or the next tile's first: from the second-level cache it
    // comes twice as fast.
    const int next_begin = (chunk + 1) * kGatherSteps * kTileK;
    const bool next_steps = next_begin < k;
    const int next_row = next_steps ? row : source(next);
    const int next_k = next_steps ? next_begin : 0;
    if (lane < end - first)
      ptx::prefetch(gemm.gather.from + std::int64_t{next_row} * k + next_k, min(kGatherSteps * kTileK, k - next_k) * 2);
  }
  std::uint16_t* const to_first = gemm.gather.to + cuda::tiled_begin(tile) * cuda::tiled_k(k) +
                                  cuda::tiled_at(columns, first, chunk * kGatherSteps * kTileK);
  for (int group = 0; group < end - first; group += kRowsAtOnce) {
    const int c = group + lane / kLineLanes;
    const std::uint16_t* from = gemm.gather.from + std::int64_t{__shfl_sync(0xFFFFFFFFu, row, c)} * k + k_begin;
    std::uint16_t* to = to_first + cuda::tiled_at(0, c, lane % kLineLanes * 8);
#pragma unroll 1
    for (int step = 0; step < steps; step += InFlight) {
      uint4 line[InFlight];
#pragma unroll
      for (int i = 0; i < InFlight; ++i) {
        const bool inside = k_begin + (step + i) * kTileK < k;
        line[i] = inside ? __ldcg(reinterpret_cast<const uint4*>(from + i * kTileK)) : uint4{};
      }
#pragma unroll
      for (int i = 0; i < InFlight; ++i) {
        if (step + i < steps) __stcg(reinterpret_cast<uint4*>(to), line[i]);
        to += columns * kTileK;
      }
      from += InFlight * kTileK;
    }
  }
  // Bulk copies of another block will read what ordinary stores wrote.
  ptx::fence_async_global();
  __syncwarp();
  const int chunks = static_cast<int>(gather_chunks(k));
  if (lane == 0) ptx::add_release(gemm.gather.ready + tile.place * chunks + chunk, (end - first) / kGatherPiece);
}

// Units of `Columns` columns of the tiles [begin, end), as they are claimed from a counter. `wait(tile)` comes before
// a unit of the tile.
template <int Columns, int InFlight, bool kLooksAhead, class Wait>
__device__ __forceinline__ void gather_units(const Gemm& gemm, int begin, int end, std::int32_t* claims, int lane,
                                             const Wait& wait) {
  const int chunks = static_cast<int>(gather_chunks(gemm.weights.k));
  const int units_of_chunk = (static_cast<int>(cuda::tiled_columns(gemm.tiles.max_rows)) + Columns - 1) / Columns;
  const int units_of_tile = chunks * units_of_chunk;
  // Lane 0 claims the next unit while this one is brought.
  int claimed = lane == 0 ? atomicAdd(claims, 1) : 0;
  for (;;) {
    const int unit = __shfl_sync(0xFFFFFFFFu, claimed, 0);
    const int index = begin + unit / units_of_tile;
    if (index >= end) return;
    if (lane == 0) claimed = atomicAdd(claims, 1);
    const int chunk = unit % units_of_tile / units_of_chunk;
    const int first = unit % units_of_chunk * Columns;
    const auto tile_at = [&](int at) {
      const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + at));
      return cuda::TokenTile{packed.x, packed.y, packed.z, packed.w};
    };
    const cuda::TokenTile tile = tile_at(index);
    const cuda::TokenTile next = tile_at(min(index + 1, end - 1));
    const int columns = static_cast<int>(cuda::tiled_columns(tile.rows));
    if (first >= columns) continue;
    wait(index);
    gather_columns<InFlight, kLooksAhead>(gemm, tile, next, chunk, first, min(first + Columns, columns), lane);
  }
}

// All warps, before their first item. All lanes of the warp.
__device__ __forceinline__ void gather_first_tiles(const Gemm& gemm, int first_tiles, int lane) {
  gather_units<kGatherPiece, kGatherSteps, false>(gemm, 0, first_tiles, gemm.gather.claims, lane, [](int) {});
}

// The gathering warps: what is left. All lanes of the warp. `items_of_tile`: as the scout counts items.
template <int InFlight>
__device__ __forceinline__ void gather_tiles(const Gemm& gemm, int first_tiles, int items_of_tile, int workers,
                                             int lane) {
  // Tiles gathered long before their turn would have left the second-level cache by then. As many as all blocks begin
  // at one time, and one, are near enough.
  const int ahead = first_tiles + 1;
  gather_units<kGatherRows, InFlight, true>(
      gemm, first_tiles, __ldcg(gemm.tiles.count), gemm.gather.claims + 1, lane, [&](int tile) {
        while (tile > (workers + ptx::load_relaxed(gemm.claims)) / items_of_tile + ahead) __nanosleep(500);
      });
}

}  // namespace megamoe::sm90
