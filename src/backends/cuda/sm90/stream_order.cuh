// The rows of a call with few choices, ordered by any warp that needs them from the choices' experts, one a lane:
// faster than a launch in front that orders them for everybody. Rows are those of order_rows (common/order_rows.cu);
// the tiles come in another sequence, which changes no sum.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/token_tiles.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/stream_stage.cuh"

namespace megamoe::sm90 {

// Of a lane's choice. Its row is begin + rank.
struct OwnChoice {
  int expert = -1;    // -1: no row
  int begin = 0;      // first row of its expert
  int rank = 0;       // among the rows of its expert
  int rows = 0;       // of its expert
  int previous = -1;  // the largest expert below its own that has rows
};

// Any time after the ids were written. The lanes beyond the choices have none.
__device__ __forceinline__ int own_expert(const Gemm& gemm, int lane) {
  const int id = lane < gemm.own_choices ? __ldcg(gemm.own_ids + lane) : -1;
  return id >= 0 && id < gemm.own_experts ? id : -1;
}

// All lanes of a warp.
__device__ __forceinline__ OwnChoice order_choices(const Gemm& gemm, int expert, int lane) {
  OwnChoice own{.expert = expert};
#pragma unroll 4
  for (int other = 0; other < gemm.own_choices; ++other) {
    const int its = __shfl_sync(0xFFFFFFFFu, expert, other);
    const bool below = its >= 0 && its < expert;
    const bool same = its == expert;
    own.begin += below;
    own.rows += same;
    own.rank += same && other < lane;
    if (below) own.previous = max(own.previous, its);
  }
  return own;
}

// For the copying warp of the block. All lanes.
__device__ __forceinline__ void keep_order(const Gemm& gemm, const OwnChoice& mine, int lane, OwnOrder& own) {
  int size = kOwnOrderChoices;  // of a tile
  if (mine.rows > gemm.tiles.max_rows) size = cuda::cut_rows(mine.rows, gemm.tiles).size;
  const bool routed = mine.expert >= 0;
  const bool leads = routed && mine.rank % size == 0;
  const unsigned leaders = __ballot_sync(0xFFFFFFFFu, leads);
  const unsigned below = (1u << lane) - 1;
  if (leads)
    own.tiles[__popc(leaders & below)] = {mine.expert, mine.begin + mine.rank, min(size, mine.rows - mine.rank), 0};
  if (routed) own.choice_of[mine.begin + mine.rank] = lane;
  if (lane == 0) own.tile_count = __popc(leaders);
  __syncwarp();
}

// For everybody behind, what order_rows writes, but the routed rows' tiles. One warp of the grid.
__device__ __forceinline__ void write_order(const cuda::OrderRows& call, const OwnChoice& mine, int lane) {
  const bool routed = mine.expert >= 0;
  const int row = mine.begin + mine.rank;
  if (lane < call.tokens * call.top_k) call.order.row_of[lane] = routed ? row : -1;
  if (routed) call.order.choice_of[row] = lane;

  // Each expert's first choice writes the begins of the experts without rows in front of it, too.
  const int rows = __popc(__ballot_sync(0xFFFFFFFFu, routed));
  const int last = __reduce_max_sync(0xFFFFFFFFu, mine.expert);
  if (routed && mine.rank == 0)
    for (int expert = mine.previous + 1; expert <= mine.expert; ++expert) call.order.row_begin[expert] = mine.begin;
  for (int expert = last + 1 + lane; expert <= call.experts; expert += 32) call.order.row_begin[expert] = rows;

  if (call.shared_tiles.tiles == nullptr) return;
  const auto tokens = lane == 0 ? static_cast<std::int32_t>(call.tokens) : 0;
  cuda::write_tiles({.of = {call.shared_tiles}}, 0, tokens, {});
  if (lane == 0) *call.shared_tiles.count = cuda::cut_rows(tokens, call.shared_tiles).tiles;
}

// The same warp of every block: the counters of the launches behind.
__device__ __forceinline__ void clear_counters(const cuda::OrderRows& call, int lane) {
  const std::int64_t first = std::int64_t{blockIdx.x} * 32 + lane;
  for (std::int64_t i = first; i < call.counter_count; i += std::int64_t{gridDim.x} * 32) call.counters[i] = 0;
}

}  // namespace megamoe::sm90
