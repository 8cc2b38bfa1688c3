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
  std::uint64_t claimed[kItemSlots];        // publish()
  alignas(16) std::uint32_t source[kGatherers][Config::kColumns];
};

// ---- The copying warpgroup ------------------------------------------------------------------------------------------

// One warp claims items and copies weights, as far ahead as the ring is long. Three gather tokens, every third stage
// each: a gatherer waits for its own copies before it says that they are there, for it has to order them before wgmma's
// reads (fence.proxy.async), and three at a time hide that. Not by consumers' fences: those cost the multiplying warps
// their overlap.

// What the claiming warp tells the gatherers: item `number` is `item`, or there are no more.
__device__ __forceinline__ void publish(std::uint64_t& place, int number, int item) {
  *reinterpret_cast<volatile std::uint64_t*>(&place) = static_cast<std::uint64_t>(number + 1) << 32 | static_cast<std::uint32_t>(item);
}
__device__ __forceinline__ int published(const std::uint64_t& place, int number) {
  std::uint64_t found;
  do found = *reinterpret_cast<const volatile std::uint64_t*>(&place);
  while (static_cast<int>(found >> 32) != number + 1);
  return static_cast<int>(static_cast<std::uint32_t>(found));
}

template <class Config>
__device__ __forceinline__ TileItem open_item(const Gemm& gemm, int item) {
  const int panel_groups = (gemm.weights.panels + Config::kPanels - 1) / Config::kPanels;
  const int4 packed = __ldcg(reinterpret_cast<const int4*>(gemm.tiles.tiles + item / panel_groups));
  const int columns = (packed.z + Config::kColumnStep - 1) / Config::kColumnStep * Config::kColumnStep;
  return {.tile = {packed.x, packed.y, packed.z, 0},
          .panel = item % panel_groups * Config::kPanels,
          .columns = max(columns, Config::kMinColumns)};
}

template <class Config>
__device__ __forceinline__ void wait_empty(TileShared<Config>& shared, int i) {
  constexpr int kStages = Config::kStages;
  if (i >= kStages) ptx::mbarrier_wait(&shared.empty[i % kStages], (i / kStages - 1) & 1);
}

// Lane 0 does all of it.
template <class Weights, class Config>
__device__ __forceinline__ void copy_weights(const Gemm& gemm, TileShared<Config>& shared) {
  constexpr int kStages = Config::kStages;
  const GemmWeights& w = gemm.weights;
  const int steps = static_cast<int>(steps_of(w.k));
  const int panel_groups = (w.panels + Config::kPanels - 1) / Config::kPanels;
  const int items = __ldcg(gemm.tiles.count) * panel_groups;
  const std::uint64_t policy = ptx::evict_normal_policy();
  int claimed = static_cast<int>(blockIdx.x);
  int i = 0;
  for (int count = 0;; ++count) {
    const int item = claimed;
    publish(shared.claimed[count % kItemSlots], count, item < items ? item : -1);
    if (item >= items) {
      shared.item[count % kItemSlots].panel = -1;
      wait_empty(shared, i);
      ptx::mbarrier_arrive(&shared.full[i % kStages]);
      ptx::mbarrier_arrive(&shared.full[i % kStages]);  // for the gatherer
      return;
    }
    claimed = static_cast<int>(gridDim.x) + atomicAdd(gemm.claims, 1);  // one ahead
    const TileItem work = open_item<Config>(gemm, item);
    const int panels = min(Config::kPanels, w.panels - work.panel);
    const std::byte* from =
        w.packed + work.tile.expert * w.expert_bytes + work.panel * panel_bytes(Weights::kFormat, w.k);
    for (int step = 0; step < steps; ++step, ++i) {
      const int slot = i % kStages;
      wait_empty(shared, i);
      if (step == 0) shared.item[count % kItemSlots] = work;
      ptx::mbarrier_arrive_expect(&shared.full[slot], panels * Config::kPanelBytes);
      for (int p = 0; p < panels; ++p)
        ptx::bulk_copy(shared.weights[slot][p],
                       from + p * panel_bytes(Weights::kFormat, w.k) + std::int64_t{step} * Config::kPanelBytes,
                       Config::kPanelBytes, &shared.full[slot], policy);
    }
  }
}

// Tokens of one stage, 16 bytes a lane and copy. Columns past the tile's rows repeat its last row: nobody stores their
// sums.
__device__ __forceinline__ void gather_stage(const char* from, const std::uint32_t* source, int columns,
                                             std::uint32_t shared, int lane, std::uint32_t valid) {
  const int piece = lane % 8;
  const int first = lane / 8;  // column; then every fourth
  // Column c's piece p lies at piece p ^ (c % 8): the 128-byte swizzle, PTX ISA 9.7.15.5.1.2.
  std::uint32_t even = shared + first * 128 + ((piece ^ first) << 4);
  std::uint32_t odd = shared + (first + 4) * 128 + ((piece ^ (first + 4)) << 4);
  asm volatile("" : "+l"(from));  // one multiply-add an address
#pragma unroll 1
  for (int c = 0; c < columns; c += 16, even += 2048, odd += 2048) {
    const uint4 four = *reinterpret_cast<const uint4*>(source + c / 4);
    ptx::copy16(even, from + std::uint64_t{four.x} * 16, valid);
    ptx::copy16(odd, from + std::uint64_t{four.y} * 16, valid);
    ptx::copy16(even + 1024, from + std::uint64_t{four.z} * 16, valid);
    ptx::copy16(odd + 1024, from + std::uint64_t{four.w} * 16, valid);
  }
}

template <class Config>
__device__ __forceinline__ void gather_tokens(const Gemm& gemm, TileShared<Config>& shared, int gatherer, int lane) {
  constexpr int kStages = Config::kStages;
  const int k = gemm.weights.k;
  const int steps = static_cast<int>(steps_of(k));
  // Offset of column c, in 16 bytes from x, at [c % 4][c / 4]: a lane's four next columns are one load.
  std::uint32_t* const sources = shared.source[gatherer];
  int begin = 0;  // stage that the item begins with
  for (int count = 0;; ++count, begin += steps) {
    const int item = published(shared.claimed[count % kItemSlots], count);
    if (item < 0) return;
    const TileItem work = open_item<Config>(gemm, item);
    __syncwarp();
    for (int c = lane; c < work.columns; c += 32) {
      std::int64_t row = work.tile.row + min(c, work.tile.rows - 1);
      if (gemm.gather_top_k != 0) row = __ldcg(gemm.choice_of + row) / gemm.gather_top_k;
      sources[c % 4 * (Config::kColumns / 4) + c / 4] = static_cast<std::uint32_t>(row * k / 8);
    }
    __syncwarp();
    const int first = (gatherer + kGatherers - begin % kGatherers) % kGatherers;
    for (int step = first; step < steps; step += kGatherers) {
      const int slot = (begin + step) % kStages;
      wait_empty(shared, begin + step);
      const int at = step * kTileK + lane % 8 * 8;
      const bool valid = at < k;
      gather_stage(reinterpret_cast<const char*>(gemm.x) + (valid ? at * 2 : 0),
                   sources + lane / 8 * (Config::kColumns / 4), work.columns, ptx::shared_address(shared.tokens[slot]),
                   lane, valid ? 16 : 0);
      ptx::wait_copies();
      ptx::fence_async_proxy();
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(&shared.full[slot]);
    }
  }
}

template <class Weights, class Config>
__device__ __forceinline__ void copy_items(const Gemm& gemm, TileShared<Config>& shared, int warp, int lane) {
  cuda::wait_for_previous();
  cuda::let_next_start();
  if (warp != 0)
    gather_tokens(gemm, shared, warp - 1, lane);
  else if (lane == 0)
    copy_weights<Weights>(gemm, shared);
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
      ptx::mbarrier_init(&shared.full[s], 2);  // weights (or no more work) and tokens
      ptx::mbarrier_init(&shared.empty[s], Config::kWarps);
    }
    for (std::uint64_t& claimed : shared.claimed) claimed = 0;
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp >= Config::kWarps) {
    ptx::give_registers<Config::kCopyRegisters>();
    copy_items<Weights>(gemm, shared, warp - Config::kWarps, lane);
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
