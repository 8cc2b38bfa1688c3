// The loop for many rows an expert: the tensor cores are the limit, so weights are decoded once for as many tokens as
// there are registers for their sums.
//
// A block has two warpgroups that multiply for each of its panels, 64 of 128 features each, and one that copies. An item of
// work is (tile of tokens, panels); blocks claim items until none are left, panels fastest, so that the blocks that run
// at one time share tokens in the second-level cache. A stage is 64 K: weights by one bulk copy; tokens gathered row by
// row in 16-byte pieces into the 128-byte swizzle that wgmma reads.
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
  std::int32_t panel;    // first of the block's; -1: no more work
  std::int32_t columns;  // of the instance that runs it
};

template <class Config>
struct TileShared {
  static_assert(Config::kStages < kItemSlots);
  alignas(1024) std::byte tokens[Config::kStages][Config::kTokenBytes];
  alignas(128) std::byte weights[Config::kStages][Config::kPanels][Config::kPanelBytes];
  std::uint64_t full[Config::kStages];
  std::uint64_t empty[Config::kStages];
  TileItem item[kItemSlots];                // as many as may be under way, and the one that is being finished
  std::uint32_t source[Config::kColumns];   // of each column, in 16 bytes from x; the copying warps' own
  std::int32_t claimed;                     // likewise
};

// ---- The copying warpgroup ------------------------------------------------------------------------------------------

// This thread's 16 bytes of every 16th column, for one stage. Columns past the tile's rows repeat its last row: nobody
// stores their sums.
template <bool Whole>
__device__ __forceinline__ void gather_stage(const std::uint16_t* x, const std::uint32_t* source, int columns,
                                             std::uint32_t shared, int thread, int k_begin, int k_count) {
  const int piece = thread % 8;
  const int column = thread / 8;
  // Column c's piece p lies at piece p ^ (c % 8): the 128-byte swizzle, PTX ISA 9.7.15.5.1.2.
  std::uint32_t to = shared + column * 128 + ((piece ^ (column % 8)) << 4);
  const std::uint32_t valid = Whole || piece * 8 < k_count ? 16 : 0;
  const char* from = reinterpret_cast<const char*>(x) + (valid != 0 ? (k_begin + piece * 8) * 2 : 0);
  const std::uint32_t* end = source + columns;
#pragma unroll 4
  for (source += column; source < end; source += kTileColumns, to += kTileColumns * 128)
    ptx::copy16(to, from + std::uint64_t{*source} * 16, valid);
}

template <class Weights, class Config>
__device__ __forceinline__ void copy_items(const Gemm& gemm, TileShared<Config>& shared, int thread) {
  constexpr int kStages = Config::kStages;
  const GemmWeights& w = gemm.weights;
  const int steps = static_cast<int>(steps_of(w.k));
  const std::uint64_t policy = ptx::evict_normal_policy();
  cuda::wait_for_previous();
  cuda::let_next_start();
  const int panel_groups = (w.panels + Config::kPanels - 1) / Config::kPanels;
  const int items = __ldcg(gemm.tiles.count) * panel_groups;
  const auto claim = [&] { return thread == 0 ? atomicAdd(gemm.claims, 1) : 0; };
  int claimed = claim();
  int i = 0;
  int count = 0;  // of items
  const auto wait_empty = [&] {
    if (i >= kStages) ptx::mbarrier_wait(&shared.empty[i % kStages], (i / kStages - 1) & 1);
  };
  for (;;) {
    if (thread == 0) shared.claimed = claimed;
    ptx::named_barrier<kCopyBarrier, kCopyThreads>();
    const int item = shared.claimed;
    if (item >= items) break;
    claimed = claim();  // one ahead
    const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + item / panel_groups));
    const TileItem work{.tile = {packed.x, packed.y, packed.z, 0},
                        .panel = item % panel_groups * Config::kPanels,
                        .columns = max((packed.z + Config::kColumnStep - 1) / Config::kColumnStep * Config::kColumnStep,
                                         Config::kMinColumns)};
    for (int c = thread; c < work.columns; c += kCopyThreads) {
      std::int64_t row = work.tile.row + min(c, work.tile.rows - 1);
      if (gemm.gather_top_k != 0) row = __ldcg(gemm.choice_of + row) / gemm.gather_top_k;
      shared.source[c] = static_cast<std::uint32_t>(row * w.k / 8);
    }
    ptx::named_barrier<kCopyBarrier, kCopyThreads>();
    const std::byte* weights =
        w.packed + work.tile.expert * w.expert_bytes + work.panel * panel_bytes(Weights::kFormat, w.k);
    const int panels = min(Config::kPanels, w.panels - work.panel);
    for (int step = 0; step < steps; ++step, ++i) {
      const int slot = i % kStages;
      wait_empty();
      if (thread == 0) {
        if (step == 0) shared.item[count % kItemSlots] = work;
        ptx::mbarrier_arrive_expect(&shared.full[slot], panels * Config::kPanelBytes);
        for (int p = 0; p < panels; ++p)
          ptx::bulk_copy(shared.weights[slot][p],
                         weights + p * panel_bytes(Weights::kFormat, w.k) + std::int64_t{step} * Config::kPanelBytes,
                         Config::kPanelBytes, &shared.full[slot], policy);
      }
      const std::uint32_t tokens = ptx::shared_address(shared.tokens[slot]);
      const int k_count = w.k - step * kTileK;
      if (k_count >= kTileK)
        gather_stage<true>(gemm.x, shared.source, work.columns, tokens, thread, step * kTileK, kTileK);
      else
        gather_stage<false>(gemm.x, shared.source, work.columns, tokens, thread, step * kTileK, k_count);
      ptx::arrive_after_copies(&shared.full[slot]);
    }
    ++count;
  }
  wait_empty();
  if (thread == 0) {
    shared.item[count % kItemSlots].panel = -1;
    ptx::mbarrier_arrive(&shared.full[i % kStages]);
  }
  ptx::mbarrier_arrive(&shared.full[i % kStages]);
}

// ---- The multiplying warpgroups -------------------------------------------------------------------------------------

// An item whose first stage is stage i. Returns the stage after its last.
template <int Columns, GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ int multiply_tile(const Gemm& gemm, TileShared<Config>& shared, const TileItem& item, int i,
                                             int warp, int lane) {
  constexpr int kStages = Config::kStages;
  constexpr int kWgmmas = Columns > kWgmmaColumns ? 2 : 1;
  constexpr int kSums = Columns / kWgmmas / 2;
  constexpr std::uint64_t kNextB = static_cast<std::uint64_t>(Columns / kWgmmas * kTileK * 2 / 16);  // descriptor's units
  // What follows from these must not be computed before the loop over items: registers would hold it for all instances at
  // once, and then wgmma would not overlap with anything (ptxas C7512).
  asm volatile("" : "+r"(warp), "+r"(lane));
  const int steps = static_cast<int>(steps_of(gemm.weights.k));
  const int tile_lane = warp % 4 * 32 + lane;
  // Not through wgmma's own scale-d: sums that are undefined before the first step live through the loop over items, those
  // of all instances at once.
  float sum[kWgmmas][kSums] = {};

#pragma unroll 1
  for (int step = 0; step < steps; ++step, ++i) {
    const int slot = i % kStages;
    ptx::mbarrier_wait(&shared.full[slot], i / kStages & 1);
    ptx::fence_async_proxy();  // cp.async wrote by the generic proxy, wgmma reads by the other
    const Weights weights(shared.weights[slot][warp / 8] + warp / 4 % 2 * Weights::kTileBytes, tile_lane);
    const std::uint64_t tokens = ptx::swizzled_rows(ptx::shared_address(shared.tokens[slot]));
    // One commit a fragment: while they are in flight, the next is decoded.
    const auto multiply = [&]<int Step>() {
      std::uint32_t a[4];
      weights.template fragment<Step>(a);
      ptx::wgmma_fence();
#pragma unroll
      for (int n = 0; n < kWgmmas; ++n)
        wgmma(sum[n], a, tokens + Step * 2 + n * kNextB);
      ptx::wgmma_commit();
      ptx::wgmma_wait<Config::kInFlight>();
    };
    multiply.template operator()<0>();
    multiply.template operator()<1>();
    // The stage before this one has been read now.
    if (step != 0 && lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);
    multiply.template operator()<2>();
    multiply.template operator()<3>();
  }
  ptx::wgmma_wait<0>();
  if (lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);

  const TileItem work = item;  // read only now: the loop has no registers to spare
  const Epilogue<Kind> epilogue(gemm, work.tile, work.panel + warp / 8, warp % 8, lane, Weights::kScale);
#pragma unroll
  for (int n = 0; n < kWgmmas; ++n)
#pragma unroll
    for (int block = 0; block < kSums / 4; ++block) {
      const float (&all)[kSums] = sum[n];
      const float four[4] = {all[4 * block], all[4 * block + 1], all[4 * block + 2], all[4 * block + 3]};
      epilogue.store(four, n * (Columns / 2) + block * 8);
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
      ptx::mbarrier_init(&shared.full[s], 1 + kCopyThreads);
      ptx::mbarrier_init(&shared.empty[s], Config::kWarps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp >= Config::kWarps) {
    ptx::give_registers<Config::kCopyRegisters>();
    copy_items<Weights>(gemm, shared, static_cast<int>(threadIdx.x) - Config::kThreads);
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
