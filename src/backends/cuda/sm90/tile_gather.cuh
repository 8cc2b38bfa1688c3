// The gathering warps of the tile loop: rows of x into tiles (common/rows.h), while the block multiplies.
//
// Tokens have to be in order before a bulk copy can bring them to wgmma, and a launch of its own for that writes and
// reads them at the speed of the memory while the tensor cores idle: 4 to 8 % of a large batch. Here two warps of each
// block do it, a few tiles ahead of the products. A unit of work is (tile, kGatherSteps of 64 K, kGatherRows
// columns), claimed in that order. Whoever is done adds one to the counter of (tile, steps); the scout waits for all
// of a tile's. Claims are dynamic, and a warp that has a unit waits for nobody but earlier units: so the call comes to
// its end however few of its blocks the device holds at a time.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"

namespace megamoe::sm90 {

// Units of a tile and some steps, the last of fewer columns.
__device__ __forceinline__ int gather_units(std::int32_t rows) {
  return (static_cast<int>(cuda::tiled_columns(rows)) + kGatherRows - 1) / kGatherRows;
}

__device__ __forceinline__ bool gathers(const Gemm& gemm) { return gemm.gather.from != nullptr; }

// All lanes of a warp: until all rows of a tile are in memory, for bulk copies of this block.
__device__ __forceinline__ void wait_for_rows(const Gemm& gemm, int tile, std::int32_t rows, int lane) {
  const int units = gather_units(rows);
  const int chunks = static_cast<int>(gather_chunks(gemm.weights.k));
  for (int chunk = lane; chunk < chunks; chunk += 32)
    while (ptx::load_acquire(gemm.gather.ready + tile * chunks + chunk) < units) __nanosleep(100);
  ptx::fence_async_global();
  __syncwarp();
}

// One unit. Columns past the tile's rows, up to the next multiple of 16, repeat the last row: they are multiplied too,
// and numbers of a common size take the epilogue's short way. InFlight: loads of a lane, four registers each.
template <int InFlight>
__device__ __forceinline__ void gather_unit(const Gemm& gemm, const cuda::TokenTile& tile, int index, int chunk,
                                            int first, int lane) {
  static_assert(kGatherSteps % InFlight == 0);
  constexpr int kLineLanes = 8;  // bring the 128 bytes of a column and a step
  constexpr int kRowsAtOnce = 32 / kLineLanes;
  const int columns = static_cast<int>(cuda::tiled_columns(tile.rows));
  const int k = gemm.weights.k;
  const int steps = min(kGatherSteps, static_cast<int>(steps_of(k)) - chunk * kGatherSteps);
  const int end = min(first + kGatherRows, columns);
  // This lane's 16 bytes of a step.
  const int k_begin = chunk * kGatherSteps * kTileK + lane % kLineLanes * 8;
  const auto source = [&](int c) {
    const int row = tile.row + min(c, tile.rows - 1);
    return gemm.gather_top_k == 0 ? row : __ldcg(gemm.choice_of + row) / gemm.gather_top_k;
  };
  int c = first + lane / kLineLanes;
  int next_row = source(c);
  for (; c < end; c += kRowsAtOnce) {
    const std::uint16_t* from = gemm.gather.from + std::int64_t{next_row} * k + k_begin;
    std::uint16_t* to =
        gemm.gather.to + cuda::tiled_begin(tile, index) * cuda::tiled_k(k) + cuda::tiled_at(columns, c, k_begin);
    next_row = source(c + kRowsAtOnce);
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
}

// All lanes of the warp. `items_of_tile`: as the copying thread counts items.
// kAll: until all is done, a few tiles ahead of the products; else only what the blocks' first items take.
template <int InFlight, bool kAll>
__device__ __forceinline__ void gather_rows(const Gemm& gemm, int items_of_tile, int lane) {
  const int chunks = static_cast<int>(gather_chunks(gemm.weights.k));
  const int units_of_chunk = gather_units(gemm.tiles.max_rows);
  const int units_of_tile = chunks * units_of_chunk;
  const int units = __ldcg(gemm.tiles.count) * units_of_tile;
  // Tiles gathered long before their turn would have left the second-level cache by then. As many as all blocks begin
  // at one time, and two, are near enough.
  const int ahead = static_cast<int>(gridDim.x) / items_of_tile + 2;
  const int first_units = min(units, (static_cast<int>(gridDim.x) / items_of_tile + 1) * units_of_tile);
  for (int unit = 0; kAll || unit < first_units;) {
    if (lane == 0) unit = atomicAdd(gemm.gather.claims, 1);
    unit = __shfl_sync(0xFFFFFFFFu, unit, 0);
    if (unit >= units) return;
    const int index = unit / units_of_tile;
    const int chunk = unit % units_of_tile / units_of_chunk;
    const int first = unit % units_of_chunk * kGatherRows;
    const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + index));
    const cuda::TokenTile tile{packed.x, packed.y, packed.z, 0};
    if (first >= cuda::tiled_columns(tile.rows)) continue;
    while (kAll && index > (static_cast<int>(gridDim.x) + ptx::load_relaxed(gemm.claims)) / items_of_tile + ahead)
      __nanosleep(500);
    gather_unit<InFlight>(gemm, tile, index, chunk, first, lane);
    // Bulk copies of another block will read what ordinary stores wrote.
    ptx::fence_async_global();
    __syncwarp();
    if (lane == 0) ptx::add_release(gemm.gather.ready + index * chunks + chunk, 1);
  }
}

}  // namespace megamoe::sm90
