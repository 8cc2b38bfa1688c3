// The loop for few rows an expert: every active expert's weights are read once, and everything else hides behind that.
//
// A block has warps that multiply, 16 features each, and one that copies. An item of work is (tile of tokens, strip,
// part of K): a strip is a panel of 128 features or a half of one. Blocks take items until none are left. The copying
// warp (stream_copy.cuh) fills a ring of stages: weights by one bulk copy, or one every 64 K, tokens by one a row. Work
// of a stage is described in the ring itself (stream_stage.cuh), so that the multiplying warps know nothing of claims.
//
// With more warps than an item's features need, groups of them take the steps of 64 K in turn, and their sums meet in
// shared memory (stream_sums.cuh). Where K is cut into parts, kGateUp's sums meet through global memory: the last of a
// tile's parts to arrive adds all of them. kDown leaves its parts to combine.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/decode.cuh"
#include "backends/cuda/sm90/epilogue.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/stream_config.h"
#include "backends/cuda/sm90/stream_copy.cuh"
#include "backends/cuda/sm90/stream_order.cuh"
#include "backends/cuda/sm90/stream_stage.cuh"
#include "backends/cuda/sm90/stream_sums.cuh"

namespace megamoe::sm90 {

// Adds one step of 64 K, or its first `count` times 16, to the sums of 8 * Blocks tokens.
template <int Blocks, class Weights>
__device__ __forceinline__ void multiply_step(std::uint32_t tile, int tile_lane, std::uint32_t tokens, int token_stride,
                                              int count, float (&sum)[Blocks][4]) {
  const Weights weights(tile, tile_lane);
  std::uint32_t b[Blocks][8];
#pragma unroll
  for (int n = 0; n < Blocks; ++n) {
    std::uint32_t low[4], high[4];
    ptx::load_matrices(low, tokens + n * 8 * token_stride);
    ptx::load_matrices(high, tokens + n * 8 * token_stride + 64);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[n][i] = low[i];
      b[n][4 + i] = high[i];
    }
  }
  const auto multiply = [&]<int Step>() {
    if (Step >= count) return;  // columns past K hold anything, NaN too
    std::uint32_t a[4];
    weights.template fragment<Step>(a, kScaleExponent);
#pragma unroll
    for (int n = 0; n < Blocks; ++n) ptx::mma_m16n8k16(sum[n], a, b[n][2 * Step], b[n][2 * Step + 1]);
  };
  multiply.template operator()<0>();
  multiply.template operator()<1>();
  multiply.template operator()<2>();
  multiply.template operator()<3>();
}

// One item from its first stage, which is full and in `at`, to its result; leaves `at` at the stage after its last.
// `turn` counts the block's items.
template <GemmKind Kind, int Blocks, class Weights, class Config>
__device__ __forceinline__ void multiply_item(const Gemm& gemm, StreamShared<Config>& shared,
                                              const RingAddresses<Config>& ring, RingPlace<Config>& at, int turn,
                                              int warp, int lane) {
  constexpr int kSplits = Config::kSplits;
  constexpr int kStepBytes = Config::kTiles * Weights::kTileBytes;  // in the ring
  float sum[Blocks][4] = {};
  const StreamStage stage = shared.stage[at.slot];
  const int place = warp % Config::kGroupWarps;  // among the warps of the item's features
  const int group = warp / Config::kGroupWarps;
  // What the epilogue needs of memory is on its way while the item is multiplied.
  const int panel = stage.strip / Config::kStrips;
  const int panel_warp = stage.strip % Config::kStrips * Config::kGroupWarps + place;
  const OwnRows own{.choice_of = gemm.own_ids != nullptr ? shared.own.choice_of : nullptr};
  const Epilogue<Kind> epilogue(gemm, stage.tile, panel, panel_warp, lane, Weights::kScale, stage.part, own);

  const int tile_lane = place % 4 * 32 + lane;
  const std::uint32_t token =
      static_cast<std::uint32_t>(lane % 8 * Config::kTokenStride + lane / 8 * 16 + group * kTileK * 2);
  const std::uint32_t first_tile = static_cast<std::uint32_t>(group * kStepBytes + place / 4 * Weights::kTileBytes);
  int k_count = stage.k_count;
  bool last = stage.last != 0;
  for (;;) {
    const std::uint32_t tiles = ring.weights(at.slot) + first_tile;
    const std::uint32_t tokens = ring.tokens(at.slot) + token;
    const auto multiply = [&](int step, int count) {
      multiply_step<Blocks, Weights>(tiles + step * kStepBytes, tile_lane, tokens + step * kTileK * 2,
                                     Config::kTokenStride, count, sum);
    };
    if (k_count == Config::kStageSteps * kTileK) {
#pragma unroll
      for (int step = 0; step < Config::kStageSteps; step += kSplits) multiply(step, 4);
    } else {
      const int left = k_count / 16 - group * 4;  // fragments, from the group's first
      for (int step = 0; step * 4 < left; step += kSplits) multiply(step, left - step * 4);
    }
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(ring.empty(at.slot));
    at.next();
    if (last) break;
    ptx::mbarrier_wait(ring.full(at.slot), at.parity);
    const uint2 extent = ring.extent(at.slot);
    k_count = static_cast<int>(extent.x);
    last = extent.y != 0;
  }

  if constexpr (kSplits > 1) {
    // Another group from item to item, so that none falls behind.
    if (!meet_in_block<Config>(shared, warp, lane, turn % kSplits, sum[0])) return;
  }
  if (Kind == GemmKind::kGateUp && gemm.parts > 1 && !meet_in_memory<Config, Blocks>(gemm, stage, place, lane, sum))
    return;
  epilogue.template store<EpilogueCase::kAny>(sum, 0);
}

template <GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ void multiply_all(const Gemm& gemm, StreamShared<Config>& shared, int warp, int lane) {
  constexpr int kBlocks = Config::kBlocks;
  const RingAddresses<Config> ring(shared);
  RingPlace<Config> at;
  for (int turn = 0;; ++turn) {
    ptx::mbarrier_wait(ring.full(at.slot), at.parity);
    const StreamStage& stage = shared.stage[at.slot];
    if (stage.item < 0) return;
    const auto multiply = [&]<int Blocks>() {
      multiply_item<Kind, Blocks, Weights>(gemm, shared, ring, at, turn, warp, lane);
    };
    if constexpr (kBlocks == 1) {
      multiply.template operator()<1>();
    } else {
      const int blocks = (stage.tile.rows + 7) / 8;
      if (blocks == 1)
        multiply.template operator()<1>();
      else if (blocks == 2)
        multiply.template operator()<2>();
      else if (kBlocks > 3 && blocks == 3)
        multiply.template operator()<kBlocks >= 3 ? 3 : 2>();
      else
        multiply.template operator()<kBlocks>();
    }
  }
}

template <GemmKind Kind, class Weights, class Config>
__global__ void __launch_bounds__(Config::kThreads + 32, Config::kBlocksPerSm)
    stream_gemm_kernel(const __grid_constant__ Gemm gemm) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<StreamShared<Config>*>(memory);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool copies = warp == Config::kWarps;
  // Who orders rows asks for the ids as soon as it may; in the first launch of a call that is after the wait.
  const bool writes_order = gemm.order_here.topk_ids != nullptr && warp == 0;
  if (copies) {
    if (lane < Config::kStages) {
      ptx::mbarrier_init(&shared.full[lane], 1);
      ptx::mbarrier_init(&shared.empty[lane], Config::kWarps);
    }
    ptx::fence_mbarrier_init();
  }
  int expert = -1;
  if (gemm.own_ids != nullptr && (copies || writes_order)) {
    if (!gemm.tiles_are_ready) cuda::wait_for_previous();
    expert = own_expert(gemm, lane);
  }
  __syncthreads();
  if (copies) return copy_all<Kind, Weights>(gemm, shared, expert, lane);
  if (writes_order) {
    cuda::wait_for_previous();
    clear_counters(gemm.order_here, lane);
    if (blockIdx.x == 0) write_order(gemm.order_here, order_choices(gemm, expert, lane), lane);
  }
  multiply_all<Kind, Weights>(gemm, shared, warp, lane);
}

}  // namespace megamoe::sm90
