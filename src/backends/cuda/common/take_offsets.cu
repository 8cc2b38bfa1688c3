// Cumulative offsets of experts' rows to first rows and GEMM tiles: one block, two scans.
#include <cub/block/block_scan.cuh>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "backends/cuda/common/token_tiles.cuh"

namespace megamoe::cuda {
namespace {

constexpr int kThreads = 1024;

struct Larger {
  __device__ std::int32_t operator()(std::int32_t a, std::int32_t b) const { return max(a, b); }
};

__global__ void __launch_bounds__(kThreads) megamoe_take_offsets(TakeOffsets call) {
  using EndScan = cub::BlockScan<std::int32_t, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
  using TileScan = cub::BlockScan<RowsAndTiles, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename EndScan::TempStorage end_storage;
  __shared__ typename TileScan::TempStorage tile_storage;
  wait_for_previous();
  let_next_start();
  const auto thread = static_cast<std::int64_t>(threadIdx.x);
  for (std::int64_t i = thread; i < call.counter_count; i += kThreads) call.counters[i] = 0;

  std::int32_t rows_before = 0;
  RowsAndTiles before{};  // its rows are not looked at
  for (std::int64_t start = 0; start < call.experts; start += kThreads) {
    const std::int64_t expert = start + thread;
    std::int32_t end = 0;
    if (expert < call.experts)
      end = static_cast<std::int32_t>(min(max(std::int64_t{call.expert_offsets[expert]}, std::int64_t{0}), call.rows));
    std::int32_t begin = 0;  // the largest end before: bad offsets never give a row twice
    std::int32_t last_end = 0;
    EndScan(end_storage).ExclusiveScan(end, begin, rows_before, Larger(), last_end);
    const std::int32_t rows = max(end - begin, 0);
    constexpr AddRowsAndTiles kAdd;
    RowsAndTiles sum{}, all{};
    TileScan(tile_storage).ExclusiveScan(rows_and_tiles(rows, call.tiles), sum, RowsAndTiles{}, kAdd, all);
    sum = kAdd(before, sum);
    before = kAdd(before, all);
    sum.rows = begin;
    write_tiles(call.tiles, static_cast<std::int32_t>(expert), rows, sum);
    if (expert < call.experts) call.row_begin[expert] = begin;
    rows_before = max(rows_before, last_end);
    __syncthreads();  // the next round scans in the same storage
  }
  if (thread == 0) {
    call.row_begin[call.experts] = rows_before;
    for (int i = 0; i < kTileLists; ++i)
      if (call.tiles.of[i].tiles != nullptr) *call.tiles.of[i].count = before.tiles[i];
  }
}

}  // namespace

void take_offsets(const TakeOffsets& call, cudaStream_t stream) {
  launch(megamoe_take_offsets, 1, kThreads, 0, stream, call);
}

}  // namespace megamoe::cuda
