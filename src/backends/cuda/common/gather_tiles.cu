#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"

namespace megamoe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPieces = 8;        // of 16 bytes in a column of 64 K
constexpr int kStepsOfBlock = 2;  // of 64 K
constexpr int kRowsInFlight = 4;  // of a thread

// One tile, kStepsOfBlock steps; 8 lanes write one 128-byte line.
__global__ void __launch_bounds__(kThreads) megamoe_gather_tiles(GatherTiles call) {
  wait_for_previous();
  let_next_start();
  const std::int64_t index = blockIdx.x;
  if (index >= *call.tiles.count) return;
  const TokenTile tile = call.tiles.tiles[index];
  const std::int64_t columns = tiled_columns(tile.rows);
  const std::int64_t to = tiled_begin(tile, index) * tiled_k(call.k);
  const int piece = static_cast<int>(threadIdx.x) % (kStepsOfBlock * kPieces);
  const std::int64_t k = (std::int64_t{blockIdx.y} * kStepsOfBlock * kPieces + piece) * 8;
  if (k >= tiled_k(call.k)) return;
  constexpr int kRowsAtOnce = kThreads / (kStepsOfBlock * kPieces);
  for (int first = static_cast<int>(threadIdx.x) / (kStepsOfBlock * kPieces); first < tile.rows;
       first += kRowsAtOnce * kRowsInFlight) {
    uint4 values[kRowsInFlight];
#pragma unroll
    for (int i = 0; i < kRowsInFlight; ++i) {
      const int c = first + i * kRowsAtOnce;
      values[i] = {};
      if (c >= tile.rows || k >= call.k) continue;
      std::int64_t row = tile.row + c;
      if (call.choice_of != nullptr)
        row = static_cast<std::uint32_t>(call.choice_of[row]) / static_cast<std::uint32_t>(call.top_k);
      values[i] = __ldg(reinterpret_cast<const uint4*>(call.from + row * call.k + k));
    }
#pragma unroll
    for (int i = 0; i < kRowsInFlight; ++i) {
      const int c = first + i * kRowsAtOnce;
      if (c < tile.rows) *reinterpret_cast<uint4*>(call.to + to + tiled_at(columns, c, k)) = values[i];
    }
  }
}

}  // namespace

void gather_tiles(const GatherTiles& call, cudaStream_t stream) {
  const auto parts = static_cast<unsigned>((tiled_k(call.k) / kTiledK + kStepsOfBlock - 1) / kStepsOfBlock);
  launch(megamoe_gather_tiles, dim3(static_cast<unsigned>(call.most_tiles), parts), kThreads, 0, stream, call);
}

}  // namespace megamoe::cuda
