// The loop for many rows an expert: the tensor cores are the limit, so weights are decoded once for as many tokens as
// there are registers for their sums.
//
// A block has two warpgroups that multiply for each of its panels, 64 of 128 features each, and one of which one thread
// copies. An item of work is (tile of tokens, panels); blocks claim items until none are left, panels fastest, so that
// the blocks that run at one time share tokens in the second-level cache. A stage is one or more 64 K, two bulk copies:
// weights, and tokens that lie in memory as wgmma wants them in shared memory (common/rows.h). Gathering them here
// instead, 16 bytes at a time from x, cost a third of the rate at 200 columns: the copies' latency, and an order
// (fence.proxy.async) between them and wgmma that only who copied can give.
//
// Each number of columns is its own instance of the loop: decoding costs the same for 16 and for 320.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/sm90/decode.cuh"
#include "backends/cuda/sm90/epilogue.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/tile_config.h"
#include "backends/cuda/sm90/wgmma.cuh"

namespace megamoe::sm90 {

inline constexpr int kItemSlots = 16;

struct TileItem {
  cuda::TokenTile tile;
  std::int32_t index;       // of the tile
  std::int32_t panel;       // first of the block's; -1: no more work
  std::int32_t columns;     // of the instance that runs it
  std::int32_t step_bytes;  // of its tokens, 64 K
};

template <class Config>
struct TileShared {
  static_assert(Config::kStages < kItemSlots);
  alignas(1024) std::byte tokens[Config::kStages][Config::kTokenBytes];
  alignas(128) std::byte weights[Config::kStages][Config::kPanels][Config::kPanelBytes];
  std::uint64_t full[Config::kStages];
  std::uint64_t empty[Config::kStages];
  TileItem item[kItemSlots];  // as many as may be under way, and the one that is being finished
};

// ---- The copying thread ---------------------------------------------------------------------------------------------

template <class Weights, class Config>
__device__ __forceinline__ void copy_items(const Gemm& gemm, TileShared<Config>& shared) {
  constexpr int kStages = Config::kStages;
  const GemmWeights& w = gemm.weights;
  const int steps = static_cast<int>(steps_of(w.k));
  const int panel_groups = (w.panels + Config::kPanels - 1) / Config::kPanels;
  // Weights are read once a tile of tokens, tokens once a panel.
  const std::uint64_t weights_policy = ptx::evict_first_policy();
  const std::uint64_t tokens_policy = ptx::evict_normal_policy();
  const int items = __ldcg(gemm.tiles.count) * panel_groups;
  int claimed = static_cast<int>(blockIdx.x);
  int i = 0;
  int count = 0;
  const auto wait_empty = [&] {
    if (i >= kStages) ptx::mbarrier_wait(&shared.empty[i % kStages], (i / kStages - 1) & 1);
  };
  for (; claimed < items; ++count) {
    const int index = claimed / panel_groups;
    const int panel = claimed % panel_groups * Config::kPanels;
    claimed = static_cast<int>(gridDim.x) + atomicAdd(gemm.claims, 1);  // one ahead
    const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + index));
    const cuda::TokenTile tile{packed.x, packed.y, packed.z, 0};
    const int rounded = (tile.rows + Config::kColumnStep - 1) / Config::kColumnStep * Config::kColumnStep;
    const int panels = min(Config::kPanels, w.panels - panel);
    const std::byte* weights = w.packed + tile.expert * w.expert_bytes + panel * panel_bytes(Weights::kFormat, w.k);
    const auto* tokens =
        reinterpret_cast<const std::byte*>(gemm.x + cuda::tiled_begin(tile, index) * cuda::tiled_k(w.k));
    const auto step_bytes = static_cast<std::uint32_t>(cuda::tiled_columns(tile.rows)) * kTileK * 2;
    for (int step = 0; step < steps; step += Config::kSteps, ++i) {
      const int slot = i % kStages;
      const auto here = static_cast<std::uint32_t>(min(Config::kSteps, steps - step));
      wait_empty();
      if (step == 0)
        shared.item[count % kItemSlots] = {.tile = tile,
                                           .index = index,
                                           .panel = panel,
                                           .columns = max(rounded, Config::kMinColumns),
                                           .step_bytes = static_cast<std::int32_t>(step_bytes)};
      ptx::mbarrier_arrive_expect(&shared.full[slot], here * (panels * Config::kStepBytes + step_bytes));
      for (int p = 0; p < panels; ++p)
        ptx::bulk_copy(shared.weights[slot][p],
                       weights + p * panel_bytes(Weights::kFormat, w.k) + std::int64_t{step} * Config::kStepBytes,
                       here * Config::kStepBytes, &shared.full[slot], weights_policy);
      ptx::bulk_copy(shared.tokens[slot], tokens + std::int64_t{step} * step_bytes, here * step_bytes,
                     &shared.full[slot], tokens_policy);
    }
  }
  shared.item[count % kItemSlots].panel = -1;
  wait_empty();
  ptx::mbarrier_arrive(&shared.full[i % kStages]);
}

// ---- The multiplying warpgroups -------------------------------------------------------------------------------------

// The sums of the group-th `AtOnce` blocks of 8 columns, group in [Begin, End): registers have no computed index.
// Blocks past the last are zeros.
template <int Begin, int End, int Wgmmas, int Sums, int AtOnce>
__device__ __forceinline__ void pick(int group, const float (&sum)[Wgmmas][Sums], float (&some)[AtOnce][4]) {
  if constexpr (End - Begin > 1) {
    constexpr int kMiddle = (Begin + End) / 2;
    if (group < kMiddle)
      pick<Begin, kMiddle>(group, sum, some);
    else
      pick<kMiddle, End>(group, sum, some);
  } else {
#pragma unroll
    for (int block = 0; block < AtOnce; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        constexpr int kFirst = Begin * AtOnce * 4;
        const int at = kFirst + block * 4 + i;
        some[block][i] = at < Wgmmas * Sums ? sum[at / Sums % Wgmmas][at % Sums] : 0.0f;
      }
  }
}

// An item whose first stage is stage i. Returns the stage after its last.
template <int Columns, GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ int multiply_tile(const Gemm& gemm, TileShared<Config>& shared, const TileItem& item, int i,
                                             int warp, int lane) {
  constexpr int kStages = Config::kStages;
  constexpr int kWgmmas = Columns > kWgmmaColumns ? 2 : 1;
  constexpr int kSums = Columns / kWgmmas / 2;
  constexpr std::uint64_t kNextB =
      static_cast<std::uint64_t>(Columns / kWgmmas * kTileK * 2 / 16);  // descriptor's units
  // What follows from these must not be computed before the loop over items: registers would hold it for all instances
  // at once, and then wgmma would not overlap with anything (ptxas C7512).
  asm volatile("" : "+r"(warp), "+r"(lane));
  const int steps = static_cast<int>(steps_of(gemm.weights.k));
  const int tile_lane = warp % 4 * 32 + lane;
  // Not through wgmma's own scale-d: sums that are undefined before the first step live through the loop over items,
  // those of all instances at once.
  float sum[kWgmmas][kSums] = {};

  const std::uint32_t step_bytes = static_cast<std::uint32_t>(item.step_bytes);

#pragma unroll 1
  for (int first = 0; first < steps; first += Config::kSteps, ++i) {
    const int slot = i % kStages;
    ptx::mbarrier_wait(&shared.full[slot], i / kStages & 1);
    const int here = Config::kSteps == 1 ? 1 : min(Config::kSteps, steps - first);
#pragma unroll 1
    for (int step = 0; step < here; ++step) {
      const Weights weights(
          shared.weights[slot][warp / 8] + step * Config::kStepBytes + warp / 4 % 2 * Weights::kTileBytes, tile_lane);
      const std::uint64_t tokens =
          ptx::swizzled_rows(ptx::shared_address(shared.tokens[slot]) + static_cast<std::uint32_t>(step) * step_bytes);
      // One commit a fragment: some are in flight while the next is decoded.
      const auto decode_and_multiply = [&]<int Step>() {
        std::uint32_t a[4];
        weights.template fragment<Step>(a);
        ptx::wgmma_fence();
#pragma unroll
        for (int n = 0; n < kWgmmas; ++n) wgmma(sum[n], a, tokens + Step * 2 + n * kNextB);
        ptx::wgmma_commit();
        ptx::wgmma_wait<Config::kInFlight>();
      };
      decode_and_multiply.template operator()<0>();
      decode_and_multiply.template operator()<1>();
      // The stage before this one has been read now.
      if (step == 0 && first != 0 && lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);
      decode_and_multiply.template operator()<2>();
      decode_and_multiply.template operator()<3>();
    }
  }
  ptx::wgmma_wait<0>();
  if (lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);

  const TileItem work = item;  // read only now: the loop has no registers to spare
  const Epilogue<Kind> epilogue(gemm, work.tile, work.index, work.panel + warp / 8, warp % 8, lane, Weights::kScale);
  // Rolled: unrolled, the epilogue's code would be 100 KB an instance, more than instruction caches hold. Several
  // blocks of 8 columns at a time, for their dependent operations to overlap.
  constexpr int kBlocks = Columns / 8;
  constexpr int kAtOnce = Config::kEpilogueBlocks;
#pragma unroll 1
  for (int group = 0; group < (kBlocks + kAtOnce - 1) / kAtOnce; ++group) {
    float some[kAtOnce][4];
    pick<0, (kBlocks + kAtOnce - 1) / kAtOnce>(group, sum, some);
    epilogue.store(some, group * kAtOnce * 8);
  }
  return i;
}

// Calls the instance for `columns`, which is one of Columns, Columns + 16, ... Config::kColumns.
template <int Columns, GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ int multiply_columns(int columns, const Gemm& gemm, TileShared<Config>& shared,
                                                const TileItem& item, int i, int warp, int lane) {
  if constexpr (Columns < Config::kColumns) {
    if (columns != Columns)
      return multiply_columns<Columns + Config::kColumnStep, Kind, Weights>(columns, gemm, shared, item, i, warp, lane);
  }
  return multiply_tile<Columns, Kind, Weights>(gemm, shared, item, i, warp, lane);
}

template <GemmKind Kind, class Weights, class Config>
__global__ void __launch_bounds__(Config::kThreads + kCopyThreads, Config::kBlocksPerSm)
    tile_gemm_kernel(const __grid_constant__ Gemm gemm) {
  extern __shared__ __align__(1024) std::byte memory[];
  auto& shared = *reinterpret_cast<TileShared<Config>*>(memory);
  const int warp = __shfl_sync(0xFFFFFFFFu, static_cast<int>(threadIdx.x) / 32, 0);  // known to be uniform
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < Config::kStages; ++s) {
      ptx::mbarrier_init(&shared.full[s], 1);
      ptx::mbarrier_init(&shared.empty[s], Config::kWarps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp >= Config::kWarps) {
    ptx::give_registers<Config::kCopyRegisters>();
    cuda::wait_for_previous();
    cuda::let_next_start();
    if (warp == Config::kWarps && lane == 0) copy_items<Weights>(gemm, shared);
  } else {
    ptx::take_registers<Config::kMultiplyRegisters>();
    for (int i = 0, count = 0;; ++count) {
      ptx::mbarrier_wait(&shared.full[i % Config::kStages], i / Config::kStages & 1);
      const TileItem& item = shared.item[count % kItemSlots];
      if (item.panel < 0) break;
      i = multiply_columns<Config::kMinColumns, Kind, Weights>(item.columns, gemm, shared, item, i, warp, lane);
    }
  }
}

}  // namespace megamoe::sm90
