// The gathering warps of the tile loop: rows of x into tiles (common/rows.h), while the block multiplies.
//
// Tokens have to be in order before a bulk copy can bring them to wgmma, and a launch of its own for that writes and
// reads them at the speed of the memory while the tensor cores idle: 4 to 8 % of a large batch. Here two warps of each
// block do it, ahead of the products as far as the ring of tiles reaches. A unit of work is (tile, kGatherChunks chunks
// of kGatherSteps of 64 K, kGatherPiece columns), claimed in that order. Whoever is done counts in each chunk's
// counter; the scout waits for all of a tile's. Before the first tiles are there nobody can multiply, so that all warps
// of the device take units of these, of one chunk, of which there are about as many.
//
// Claims are dynamic, and a warp that has a unit waits for nobody but those who multiply earlier tiles, and these for
// nobody but earlier units: so the call comes to its end however few of its blocks the device holds at a time.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/source_row.cuh"

namespace megamoe::sm90 {

static_assert(cuda::kTiledColumns % kGatherPiece == 0 && kGatherPiece == 8);

// Pieces of a tile and some steps.
__device__ __forceinline__ int gather_pieces(std::int32_t rows) {
  return static_cast<int>(cuda::tiled_columns(rows)) / kGatherPiece;
}

__device__ __forceinline__ bool gathers(const Gemm& gemm) { return gemm.gather.from != nullptr; }

// Where a tile of the list is, or is to be gathered.
__device__ __forceinline__ std::uint16_t* gathered_tile(const Gemm& gemm, int index) {
  return gemm.gather.to +
         index % gemm.gather.ring * cuda::tiled_columns(gemm.tiles.max_rows) * cuda::tiled_k(gemm.weights.k);
}

__device__ __forceinline__ cuda::TokenTile tile_at(const Gemm& gemm, int index) {
  const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + index));
  return {packed.x, packed.y, packed.z, packed.w};
}

// The counter of a tile's first chunk counts the blocks that have read the tile, too, in its high bits: its pieces are
// few, and all there before anybody has.
inline constexpr std::int32_t kReader = 1 << 16;
__device__ __forceinline__ std::int32_t* readiness(const Gemm& gemm, const cuda::TokenTile& tile) {
  return gemm.gather.ready + tile.place * static_cast<int>(gather_chunks(gemm.weights.k));
}

// A block has a tile's rows in its shared memory. Whoever sees it by wait_for_readers may write others to their place.
__device__ __forceinline__ void count_reader(const Gemm& gemm, const cuda::TokenTile& tile) {
  ptx::add_relaxed(readiness(gemm, tile), kReader);  // a read is not undone: nothing has to be ordered before
}

__device__ __forceinline__ void wait_for_readers(const Gemm& gemm, const cuda::TokenTile& tile, int readers) {
  while (ptx::load_acquire(readiness(gemm, tile)) / kReader < readers) __nanosleep(200);
}

// Until others have counted up to `enough` what bulk copies of this block are about to read.
__device__ __forceinline__ void wait_for_counter(const std::int32_t* counter, int enough) {
  while (ptx::load_acquire(counter) < enough) __nanosleep(100);
  ptx::fence_async_global();
}

// All lanes of a warp: until all rows of a tile are in memory.
__device__ __forceinline__ void wait_for_rows(const Gemm& gemm, const cuda::TokenTile& tile, int lane) {
  const int pieces = gather_pieces(tile.rows);
  const int chunks = static_cast<int>(gather_chunks(gemm.weights.k));
  for (int chunk = lane; chunk < chunks; chunk += 32) wait_for_counter(readiness(gemm, tile) + chunk, pieces);
  __syncwarp();
}

// Of eight columns of a tile: `steps` of 64 K of their rows, or what of them is within `k_left`, padded with zeros.
// Eight lanes copy a line of a column, 16 bytes each, of columns lane / 8 and lane / 8 + 4, whose rows lie `source`
// pieces of 16 bytes behind `from`; a step's columns lie `step_pieces` before the next one's. AtOnce: steps that a lane
// has in flight, eight registers each. Few instructions, and few registers, are the point: the gathering warps have 40,
// and what the compiler spills comes back from beyond the first-level cache, which their own acquiring loads empty.
template <int AtOnce>
__device__ __forceinline__ void copy_columns(const uint4* from, const std::uint32_t (&source)[2], int k_left, int steps,
                                             uint4* to, int step_pieces, int lane) {
  constexpr int kPieces = kTileK / 8;  // of a line: 128 bytes of a column, and as many lanes
  constexpr int kHalf = kGatherPiece / 2;
  const int piece = lane % kPieces;
  const int line = lane / kPieces;
  from += piece;
  // Column c's piece p lies at p ^ (c % 8).
  uint4* column[2] = {to + line * kPieces + (piece ^ line), to + (kHalf + line) * kPieces + (piece ^ (kHalf + line))};
  const auto copy = [&]<int Steps>(bool inside) {
    uint4 got[Steps][2];
#pragma unroll
    for (int step = 0; step < Steps; ++step)
#pragma unroll
      for (int i = 0; i < 2; ++i) got[step][i] = inside ? __ldcg(from + source[i] + step * kPieces) : uint4{};
    from += Steps * kPieces;
#pragma unroll
    for (int step = 0; step < Steps; ++step)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        __stcg(column[i], got[step][i]);
        column[i] += step_pieces;
      }
  };
  const int whole_steps = min(steps, k_left / kTileK);
  int step = 0;
#pragma unroll 1
  for (; step + AtOnce <= whole_steps; step += AtOnce) copy.template operator()<AtOnce>(true);
#pragma unroll 1
  for (; step < whole_steps; ++step) copy.template operator()<1>(true);
  if (whole_steps < steps && k_left % kTileK != 0) copy.template operator()<1>(piece * 8 < k_left % kTileK);
}

// Units of eight columns and `Chunks` times kGatherSteps of 64 K of the tiles [begin, end), as they are claimed from a
// counter. `wait(tile)` comes before a unit of the tile is written. Columns past the tile's rows, up to the next
// multiple of 16, repeat the last row: they are multiplied too, and numbers of a common size take the epilogue's short
// way.
template <int MostColumns, int Chunks, int AtOnce, class Wait>
__device__ __forceinline__ void gather_units(const Gemm& gemm, int begin, int end, std::int32_t* claims, int lane,
                                             const Wait& wait) {
  constexpr int kUnits = (MostColumns + kGatherPiece - 1) / kGatherPiece;  // of a part of K
  const int k = gemm.weights.k;
  const int chunks = static_cast<int>(gather_chunks(k));
  const int parts = (chunks + Chunks - 1) / Chunks;
  // Lane 0 claims the next unit while this one is brought.
  int claimed = lane == 0 ? atomicAdd(claims, 1) : 0;
  for (;;) {
    const int unit = __shfl_sync(0xFFFFFFFFu, claimed, 0);
    const int index = begin + unit / kUnits / parts;
    if (index >= end) return;
    if (lane == 0) claimed = atomicAdd(claims, 1);
    const int chunk = unit / kUnits % parts * Chunks;
    const int first = unit % kUnits * kGatherPiece;
    const cuda::TokenTile tile = tile_at(gemm, index);
    const int columns = static_cast<int>(cuda::tiled_columns(tile.rows));
    if (first >= columns) continue;
    const int k_begin = chunk * kGatherSteps * kTileK;
    const auto* const from = reinterpret_cast<const uint4*>(gemm.gather.from + k_begin);
    const int row = source_row(gemm, nullptr, tile.row + min(first + lane % kGatherPiece, tile.rows - 1));
    const std::uint32_t pieces = static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(k / 8);
    std::uint32_t source[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) source[i] = __shfl_sync(0xFFFFFFFFu, pieces, i * kGatherPiece / 2 + lane / 8);
    // A lane asks for as many lines as it copies, all at once: from the second-level cache they come twice as fast.
    if constexpr (Chunks > 1) {
#pragma unroll
      for (int i = 0; i < 2 * Chunks; ++i) {
        const int at = i / 2 * kGatherSteps + lane % 8;  // step
        if (k_begin + at * kTileK < k) ptx::prefetch_line(from + source[i % 2] + at * (kTileK / 8));
      }
    }
    wait(index);
    copy_columns<AtOnce>(from, source, k - k_begin, Chunks * kGatherSteps,
                         reinterpret_cast<uint4*>(gathered_tile(gemm, index) + cuda::tiled_at(columns, first, k_begin)),
                         columns * (kTileK / 8), lane);
    // Bulk copies of another block will read what ordinary stores wrote.
    ptx::fence_async_global();
    __syncwarp();
    if (lane < min(Chunks, chunks - chunk)) ptx::add_release(readiness(gemm, tile) + chunk + lane, 1);
  }
}

// All warps, before their first item. All lanes of the warp.
template <int MostColumns>
__device__ __forceinline__ void gather_first_tiles(const Gemm& gemm, int tiles, int lane) {
  gather_units<MostColumns, 1, 4>(gemm, 0, min(tiles, gemm.gather.first_tiles), gemm.gather.claims, lane, [](int) {});
}

// The gathering warps: what is left. All lanes of the warp. `readers`: blocks that read a tile.
template <int MostColumns>
__device__ __forceinline__ void gather_tiles(const Gemm& gemm, int readers, int lane) {
  gather_units<MostColumns, kGatherChunks, 2>(gemm, gemm.gather.first_tiles, __ldcg(gemm.tiles.count),
                                              gemm.gather.claims + 1, lane, [&](int index) {
                                                const int before = index - gemm.gather.ring;  // what lies there now
                                                if (before >= 0) wait_for_readers(gemm, tile_at(gemm, before), readers);
                                              });
}

}  // namespace megamoe::sm90
