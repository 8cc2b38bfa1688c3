// The loop for many rows an expert: the tensor cores are the limit, so weights are decoded once for as many tokens as
// there are registers for their sums.
//
// A block has two warpgroups that multiply, and one of which a warp copies, one scouts and two gather. An item of
// work is (tile of tokens, one or two panels of features of each block of a cluster); clusters claim items until none
// are left, panels fastest, so that the blocks that run at one time share tokens in the second-level cache. A stage is
// one or more 64 K: bulk copies of weights, and one of tokens, that lie in memory as wgmma wants them in shared memory
// (common/rows.h): the gathering warps saw to that (tile_gather.cuh), or the product before this one. Gathering into
// shared memory instead, 16 bytes at a time, cost a third of the rate at 200 columns: the copies' latency, and an order
// (fence.proxy.async) between them and wgmma that only who copied can give.
//
// Each number of columns is its own instance of the loop: decoding costs the same for 16 and for 304.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/sm90/decode.cuh"
#include "backends/cuda/sm90/epilogue.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/source_row.cuh"
#include "backends/cuda/sm90/tile_config.h"
#include "backends/cuda/sm90/tile_gather.cuh"
#include "backends/cuda/sm90/wgmma.cuh"

namespace megamoe::sm90 {

inline constexpr int kItemSlots = 16;

// From memory the exponent is one operation of ten cheaper in this loop: an and-or with two immediates is two. Not in
// decode.cuh: a kernel whose file has such a constant starts later, and one token of a small layer notices.
static __constant__ std::uint32_t kScaleExponentInMemory = kScaleExponent;

struct alignas(16) TileItem {
  cuda::TokenTile tile;
  const std::uint16_t* tokens;  // the tile's (common/rows.h)
  float weight_scale[2];        // of the expert: of gate and up, or of down
  std::int32_t panel;           // first of the block's; -1: no more work
  std::int32_t columns;         // of the instance that runs it
  std::int32_t step_bytes;      // of its tokens, 64 K
};
inline constexpr std::uint32_t kItemBytes = sizeof(TileItem);

template <class Config>
struct TileShared {
  static_assert(Config::kStages + 2 < kItemSlots);
  alignas(1024) std::byte tokens[Config::kStages][Config::kTokenBytes];
  alignas(128) std::byte weights[Config::kStages][Config::kPanels][Config::kPanelBytes];
  std::uint64_t full[Config::kStages];
  std::uint64_t empty[Config::kStages];
  std::uint64_t others_empty[Config::kStages];       // in the other blocks of the cluster
  std::uint64_t scouted;                             // an item is there for the copying warp
  std::uint64_t taken;                               // by it
  std::uint64_t lead;                                // the first warpgroup is kLead stages ahead
  std::uint64_t finished[kItemSlots];                // the item there
  TileItem item[kItemSlots];                         // as many as may be under way, one being finished and one scouted
  float x_scale[kGroups][Config::kEpilogueRounded];  // of the columns that a warpgroup's epilogue is at
};

// Who takes items: a cluster, whose blocks multiply the same tokens.
template <class Config>
__device__ __forceinline__ int workers() {
  return static_cast<int>(gridDim.x) / Config::kCluster;
}

// Items of a tile of tokens.
template <class Config>
__device__ __forceinline__ int items_of_panels(int panels) {
  constexpr int kPanels = Config::kPanels * Config::kCluster;
  return (panels + kPanels - 1) / kPanels;
}
template <class Config>
__device__ __forceinline__ int items_of_tile(const Gemm& gemm) {
  return items_of_panels<Config>(gemm.weights.panels);
}

// Columns of the instance that a tile of `rows` runs in, of those from the Index-th on.
template <class Config, int Index = 0>
__device__ __forceinline__ int columns_for(int rows) {
  constexpr int kColumns = Config::kColumnsOf[Index];
  if constexpr (Index + 1 < Config::kInstances) {
    if (rows > kColumns) return columns_for<Config, Index + 1>(rows);
  }
  return kColumns;
}

// ---- The scout ------------------------------------------------------------------------------------------------------

// Tells those who will copy h that an item of kGateUp is there: for the multiplying warps, whom the fences would hold
// up. One lane.
__device__ __forceinline__ void count_finished(const Gemm& gemm, const TileItem& item) {
  ptx::fence_async_global();
  ptx::add_release(gemm.finished + item.tile.place, 1);
}

// When it is.
template <class Config>
__device__ __forceinline__ void publish_finished(const Gemm& gemm, TileShared<Config>& shared, int count) {
  ptx::mbarrier_wait(&shared.finished[count % kItemSlots], count / kItemSlots & 1);
  count_finished(gemm, shared.item[count % kItemSlots]);
}

// The blocks of a cluster that do not claim: until the last item. One lane.
template <class Config>
__device__ __forceinline__ void publish_all_finished(const Gemm& gemm, TileShared<Config>& shared) {
  for (int count = 0;; ++count) {
    const int slot = count % kItemSlots;
    ptx::mbarrier_wait(&shared.finished[slot], count / kItemSlots & 1);
    if (shared.item[slot].panel < 0) return;
    count_finished(gemm, shared.item[slot]);
  }
}

// To the copying warp of a block of the cluster.
template <class Config>
__device__ __forceinline__ void show_item(TileShared<Config>& shared, const TileItem& item, int count, int rank) {
  TileItem& to = shared.item[count % kItemSlots];
  if constexpr (Config::kCluster == 1) {
    to = item;
    ptx::mbarrier_arrive(&shared.scouted);
  } else {
    const std::uint32_t slot = ptx::in_block(ptx::shared_address(&to), rank);
    const std::uint32_t barrier = ptx::in_block(ptx::shared_address(&shared.scouted), rank);
    const int4* const parts = reinterpret_cast<const int4*>(&item);
#pragma unroll
    for (int i = 0; i < static_cast<int>(kItemBytes / 16); ++i) ptx::store_async(slot + i * 16, parts[i], barrier);
  }
}

// One warp of a cluster claims items, one ahead of the copying warps, and sees to it that their tokens are in memory.
// The copying warp could not do that: the fence behind waiting for what others wrote waits for its own copies as well.
template <GemmKind Kind, class Config>
__device__ __forceinline__ void scout_items(const Gemm& gemm, TileShared<Config>& shared, int lane) {
  const GemmWeights& w = gemm.weights;
  const int items_each = items_of_tile<Config>(gemm);
  const int items = __ldcg(gemm.tiles.count) * items_each;
  // Block b begins with item b; where blocks begin as others leave, with the next.
  const int given = gemm.beside_previous ? 0 : workers<Config>();
  const auto claim = [&] { return given + atomicAdd(gemm.claims, 1); };
  int claimed = static_cast<int>(blockIdx.x) / Config::kCluster;
  if (gemm.beside_previous) {
    if (lane == 0) claimed = claim();
    claimed = __shfl_sync(0xFFFFFFFFu, claimed, 0);
  }
  for (int count = 0;; ++count) {
    TileItem item{.panel = -1};
    const bool done = claimed >= items;
    if (!done) {
      const int index = claimed / items_each;
      const cuda::TokenTile tile = tile_at(gemm, index);
      item = {
          .tile = tile,
          .tokens = gathers(gemm) ? gathered_tile(gemm, index) : gemm.x + cuda::tiled_begin(tile) * cuda::tiled_k(w.k),
          .weight_scale = {w.scale[0][tile.expert], w.scale[1] != nullptr ? w.scale[1][tile.expert] : 0.0f},
          .panel = (claimed % items_each * Config::kCluster + (Config::kCluster == 1 ? 0 : lane)) * Config::kPanels,
          .columns = columns_for<Config>(tile.rows),
          .step_bytes = static_cast<std::int32_t>(cuda::tiled_columns(tile.rows)) * kTileK * 2};
      if (gathers(gemm)) wait_for_rows(gemm, tile, lane);
      if (Kind == GemmKind::kDown && gemm.finished != nullptr)
        wait_for_counter(gemm.finished + tile.place, items_of_panels<Config>(gemm.finished_panels) * Config::kCluster);
    }
    if (lane < Config::kCluster) {  // a lane a block
      if (count > 0) ptx::mbarrier_wait(&shared.taken, (count - 1) & 1);
      show_item(shared, item, count, lane);
    }
    if (lane == 0) {
      if (!done) claimed = claim();
      if (Kind == GemmKind::kGateUp && gemm.finished != nullptr) {
        // The copying warp is at the item before, and the others are about to finish the one before that.
        if (count >= 2) publish_finished(gemm, shared, count - 2);
        if (count >= 1 && done) publish_finished(gemm, shared, count - 1);
      }
    }
    if (__shfl_sync(0xFFFFFFFFu, static_cast<int>(done), 0) != 0) return;
    claimed = __shfl_sync(0xFFFFFFFFu, claimed, 0);
  }
}

// ---- The copying warp -----------------------------------------------------------------------------------------------

// All lanes go along and one of them copies, elected where it does: a branch of one lane around the loop would keep
// addresses from the uniform registers that the copies take, at 30 to 40 cycles each.
template <class Weights, class Config>
__device__ __forceinline__ void copy_items(const Gemm& gemm, TileShared<Config>& shared) {
  const GemmWeights& w = gemm.weights;
  const int steps = static_cast<int>(steps_of(w.k));
  const std::int64_t panel = panel_bytes(Weights::kFormat, w.k);
  // Weights are read once a tile of tokens; tokens, once a panel, stay as they come.
  const std::uint64_t weights_policy = ptx::evict_first_policy();
  int slot = 0;
  std::uint32_t round = 0;  // of the ring; the first finds it empty
  const auto wait_empty = [&] { ptx::mbarrier_wait(&shared.empty[slot], (round & 1) ^ 1); };
  const int rank = Config::kCluster == 1 ? 0 : ptx::cluster_rank();
  for (int count = 0;; ++count) {
    if (Config::kCluster > 1 && ptx::elect_one()) ptx::mbarrier_arrive_expect(&shared.scouted, kItemBytes);
    ptx::mbarrier_wait(&shared.scouted, count & 1);
    const TileItem& item = shared.item[count % kItemSlots];
    const int first_panel = __shfl_sync(0xFFFFFFFFu, item.panel, 0);
    const bool both = Config::kPanels == 2 && first_panel + 1 < w.panels;
    const std::byte* weights = w.packed + item.tile.expert * w.expert_bytes + first_panel * panel;
    const auto* tokens = reinterpret_cast<const std::byte*>(item.tokens);
    const std::uint32_t step_bytes = static_cast<std::uint32_t>(item.step_bytes);
    if (ptx::elect_one()) {
      if constexpr (Config::kCluster > 1)
        ptx::mbarrier_arrive_in_cluster(ptx::in_block(ptx::shared_address(&shared.taken), 0));
      else
        ptx::mbarrier_arrive(&shared.taken);
    }
    if (first_panel < 0) break;
    const bool has_panel = Config::kCluster == 1 || first_panel < w.panels;  // else the block only brings tokens
    for (int step = 0; step < steps; step += Config::kSteps) {
      const auto here = static_cast<std::uint32_t>(Config::kSteps == 1 ? 1 : min(Config::kSteps, steps - step));
      const std::uint32_t weight_bytes = here * Config::kStepBytes;
      const std::uint32_t token_bytes = here * step_bytes;
      wait_empty();
      if constexpr (Config::kCluster > 1) {  // a slot is free once all blocks have read it
        if (round > 0 && ptx::elect_one()) {
          const std::uint32_t barrier = ptx::shared_address(&shared.others_empty[slot]);
          for (int other = 1; other < Config::kCluster; ++other)
            ptx::mbarrier_arrive_in_cluster(ptx::in_block(barrier, (rank + other) % Config::kCluster));
        }
      }
      if (ptx::elect_one()) {
        ptx::mbarrier_arrive_expect(&shared.full[slot], (both ? 2 : has_panel ? 1 : 0) * weight_bytes + token_bytes);
        if (has_panel)
          ptx::bulk_copy(shared.weights[slot][0], weights, weight_bytes, &shared.full[slot], weights_policy);
        if (both)
          ptx::bulk_copy(shared.weights[slot][Config::kPanels - 1], weights + panel, weight_bytes, &shared.full[slot],
                         weights_policy);
        if constexpr (Config::kCluster == 1)
          ptx::bulk_copy(shared.tokens[slot], tokens, token_bytes, &shared.full[slot]);
      }
      if constexpr (Config::kCluster > 1) {  // each block brings its part to all
        ptx::mbarrier_wait(&shared.others_empty[slot], (round & 1) ^ 1);
        if (ptx::elect_one()) {
          const std::uint32_t part = token_bytes / Config::kCluster;
          ptx::bulk_copy_to_all(shared.tokens[slot] + rank * part, tokens + rank * part, part, &shared.full[slot],
                                (1u << Config::kCluster) - 1);
        }
      }
      weights += weight_bytes;
      tokens += token_bytes;
      if (++slot == Config::kStages) {
        slot = 0;
        ++round;
      }
    }
  }
  wait_empty();
  if (ptx::elect_one()) ptx::mbarrier_arrive(&shared.full[slot]);
}

// ---- The multiplying warpgroups -------------------------------------------------------------------------------------

// The sums of the part-th 8 * Blocks columns, part in [Begin, End): registers have no computed index. Blocks of 8
// columns past the last are the last again. What they are multiplied with anyway saves the move: `take(sum, i)` of the
// i-th of four.
template <int Begin, int End, int Wgmmas, int Sums, int Blocks, class Take>
__device__ __forceinline__ void pick(int part, const float (&sum)[Wgmmas][Sums], float (&some)[Blocks][4],
                                     const Take& take) {
  if constexpr (End - Begin > 1) {
    constexpr int kMiddle = (Begin + End) / 2;
    if (part < kMiddle)
      pick<Begin, kMiddle>(part, sum, some, take);
    else
      pick<kMiddle, End>(part, sum, some, take);
  } else {
#pragma unroll
    for (int block = 0; block < Blocks; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int next = (Begin * Blocks + block) * 4 + i;
        const int at = next < Wgmmas * Sums ? next : Wgmmas * Sums - 4 + i;
        some[block][i] = take(sum[at / Sums][at % Sums], i);
      }
  }
}

// Sums of one tile of 64 features to the result.
template <GemmKind Kind, int Wgmmas, int Sums, class Config>
__device__ __forceinline__ void store_tile(const Gemm& gemm, const TileItem& work, int panel, int warp, int lane,
                                           float product_scale, const float* x_scales,
                                           const float (&sum)[Wgmmas][Sums]) {
  std::uint16_t* const h_tile = gemm.h_tiles + cuda::tiled_begin(work.tile) * cuda::tiled_k(gemm.weights.channels);
  const Epilogue<Kind, true> epilogue(gemm, work.tile, panel, warp, lane, product_scale, 0,
                                      {.scales = x_scales, .weight_scale = work.weight_scale}, h_tile);
  // Rolled: unrolled, the epilogue's code would be 30 to 100 KB an instance, more than instruction caches hold.
  constexpr int kColumns = Config::kEpilogueColumns;
  constexpr int kParts = (2 * Wgmmas * Sums + kColumns - 1) / kColumns;
  const int parts = (work.tile.rows + kColumns - 1) / kColumns;
  const auto store_all = [&]<EpilogueCase kCase>() {
#pragma unroll 1
    for (int part = 0; part < parts; ++part) {
      float some[kColumns / 8][4];
      pick<0, kParts>(part, sum, some, [&](float picked, int i) { return epilogue.template taken<kCase>(picked, i); });
      epilogue.template store<kCase>(some, part * kColumns);
    }
  };
  const EpilogueCase which = epilogue.which();
  if (which == EpilogueCase::kBf16)
    store_all.template operator()<EpilogueCase::kBf16>();
  else if (which == EpilogueCase::kNvfp4)
    store_all.template operator()<EpilogueCase::kNvfp4>();
  else
    store_all.template operator()<EpilogueCase::kAny>();
}

template <class Config>
__device__ __forceinline__ void let_second_group_begin(TileShared<Config>& shared, int warp, int lane) {
  if (warp < 4 && lane == 0) ptx::mbarrier_arrive(&shared.lead);
}

// An item whose first stage is stage i. Returns the stage after its last.
template <int Columns, GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ int multiply_tile(const Gemm& gemm, TileShared<Config>& shared, const TileItem& item, int i,
                                             int warp) {
  constexpr int kStages = Config::kStages;
  constexpr int kTiles = Config::kTiles;
  constexpr int kWgmmas = Columns > kWgmmaColumns ? 2 : 1;  // of a tile
  constexpr int kSums = Columns / kWgmmas / 2;
  constexpr std::uint64_t kNextB =
      static_cast<std::uint64_t>(Columns / kWgmmas * kTileK * 2 / 16);  // descriptor's units
  // What follows from these must not be computed before the loop over items: registers would hold it for all instances
  // at once, and then wgmma would not overlap with anything (ptxas C7512).
  asm volatile("" : "+r"(warp));
  const int lane = ptx::lane();
  const int group = warp / 4;
  const int steps = static_cast<int>(steps_of(gemm.weights.k));
  const int tile_lane = warp % 4 * 32 + lane;
  // Not through wgmma's own scale-d: sums that are undefined before the first step live through the loop over items,
  // those of all instances at once.
  float sum[kTiles][kWgmmas][kSums] = {};

  const std::uint32_t step_bytes = static_cast<std::uint32_t>(item.step_bytes);

#pragma unroll 1
  for (int first = 0; first < steps; first += Config::kSteps, ++i) {
    const int slot = i % kStages;
    ptx::mbarrier_wait(&shared.full[slot], i / kStages & 1);
    const int here = Config::kSteps == 1 ? 1 : min(Config::kSteps, steps - first);
#pragma unroll 1
    for (int step = 0; step < here; ++step) {
      const std::byte* const mine = shared.weights[slot][kTiles == 1 ? 0 : group] + step * Config::kStepBytes +
                                    (kTiles == 1 ? group : 0) * Weights::kTileBytes;
      const Weights weights[2] = {Weights(mine, tile_lane),
                                  Weights(mine + (kTiles - 1) * Weights::kTileBytes, tile_lane)};
      const std::uint64_t tokens =
          ptx::swizzled_rows(ptx::shared_address(shared.tokens[slot]) + static_cast<std::uint32_t>(step) * step_bytes);
      // One commit a fragment: some are in flight while the next is decoded.
      const auto decode_and_multiply = [&]<int Step>() {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          std::uint32_t a[4];
          weights[tile].template fragment<Step>(a, kScaleExponentInMemory);
          ptx::wgmma_fence();
#pragma unroll
          for (int n = 0; n < kWgmmas; ++n) wgmma(sum[tile][n], a, tokens + Step * 2 + n * kNextB);
          ptx::wgmma_commit();
          ptx::wgmma_wait<Config::kInFlight>();
        }
      };
      decode_and_multiply.template operator()<0>();
      decode_and_multiply.template operator()<1>();
      // The stage before this one has been read now.
      if (step == 0 && first != 0 && lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);
      if (step == 0 && i == Config::kLead) let_second_group_begin(shared, warp, lane);
      decode_and_multiply.template operator()<2>();
      decode_and_multiply.template operator()<3>();
    }
  }
  ptx::wgmma_wait<0>();
  if (lane == 0) ptx::mbarrier_arrive(&shared.empty[(i - 1) % kStages]);

  const TileItem work = item;  // read only now: the loop has no registers to spare
  if (gathers(gemm) && tile_lane == 0 && group == 0) count_reader(gemm, work.tile);
  if (gemm.x_scale != nullptr) {
    float* const scales = shared.x_scale[group];
    ptx::meet_threads<128>(1 + group);  // everyone is done with the tile before
    for (int n = tile_lane; n < Columns; n += 128)
      scales[n] = __ldcg(gemm.x_scale + source_row(gemm, nullptr, work.tile.row + min(n, work.tile.rows - 1)));
    ptx::meet_threads<128>(1 + group);
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int panel = work.panel + (kTiles == 1 ? 0 : group);
    if (panel < gemm.weights.panels)
      store_tile<Kind, kWgmmas, kSums, Config>(gemm, work, panel, (kTiles == 1 ? group : tile) * 4 + warp % 4, lane,
                                               Weights::kScale, shared.x_scale[group], sum[tile]);
  }
  return i;
}

// Calls the instance for `columns`, of those from the Index-th on.
template <int Index, GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ int multiply_columns(int columns, const Gemm& gemm, TileShared<Config>& shared,
                                                const TileItem& item, int i, int warp) {
  constexpr int kColumns = Config::kColumnsOf[Index];
  if constexpr (Index + 1 < Config::kInstances) {
    if (columns != kColumns) return multiply_columns<Index + 1, Kind, Weights>(columns, gemm, shared, item, i, warp);
  }
  return multiply_tile<kColumns, Kind, Weights>(gemm, shared, item, i, warp);
}

template <GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ void multiply_items(const Gemm& gemm, TileShared<Config>& shared, int warp, int lane) {
  int i = 0;
  for (int count = 0;; ++count) {
    ptx::mbarrier_wait(&shared.full[i % Config::kStages], i / Config::kStages & 1);
    const TileItem& item = shared.item[count % kItemSlots];
    if (item.panel < 0) {
      if (Config::kCluster > 1 && Kind == GemmKind::kGateUp && lane == 0)  // publish_all_finished waits for it
        ptx::mbarrier_arrive(&shared.finished[count % kItemSlots]);
      break;
    }
    if (count == 0 && warp >= 4) ptx::mbarrier_wait(&shared.lead, 0);
    i = multiply_columns<0, Kind, Weights>(item.columns, gemm, shared, item, i, warp);
    if constexpr (Kind == GemmKind::kGateUp) {
      __syncwarp();  // all lanes have stored
      if (lane == 0) ptx::mbarrier_arrive(&shared.finished[count % kItemSlots]);
    }
  }
  if (i <= Config::kLead) let_second_group_begin(shared, warp, lane);  // there were no more stages
}

template <GemmKind Kind, class Weights, class Config>
__global__ void __launch_bounds__(Config::kThreads, 1) tile_gemm_kernel(const __grid_constant__ Gemm gemm) {
  extern __shared__ __align__(1024) std::byte memory[];
  auto& shared = *reinterpret_cast<TileShared<Config>*>(memory);
  const int warp = __shfl_sync(0xFFFFFFFFu, static_cast<int>(threadIdx.x) / 32, 0);  // known to be uniform
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < Config::kStages; ++s) {
      ptx::mbarrier_init(&shared.full[s], 1);
      ptx::mbarrier_init(&shared.empty[s], Config::kWarps);
      ptx::mbarrier_init(&shared.others_empty[s], Config::kCluster > 1 ? Config::kCluster - 1 : 1);
    }
    ptx::mbarrier_init(&shared.scouted, 1);
    ptx::mbarrier_init(&shared.taken, Config::kCluster);
    ptx::mbarrier_init(&shared.lead, 4);
    for (auto& item : shared.finished) ptx::mbarrier_init(&item, Config::kWarps);
    ptx::fence_mbarrier_init();
  }
  // The first tiles: nothing else is to be done yet. In front of the barrier: in the multiplying warps' branch the
  // compiler no longer held the main loop's numbers for uniform, 20 of its 180 instructions.
  if (gathers(gemm) || gemm.beside_previous) {
    if (!gemm.beside_previous) cuda::wait_for_previous();
    const int tiles = __ldcg(gemm.tiles.count);
    if (tiles == 0) {  // out of the way of the next launch
      if (gemm.beside_previous) cuda::wait_for_previous();
      return;
    }
    if (gathers(gemm)) gather_first_tiles<Config::kColumns>(gemm, tiles, lane);
  }
  if constexpr (Config::kCluster > 1)
    ptx::meet_cluster();
  else
    __syncthreads();
  if (warp < Config::kWarps) {
    ptx::take_registers<Config::kMultiplyRegisters>();
    multiply_items<Kind, Weights>(gemm, shared, warp, lane);
  } else {
    ptx::give_registers<Config::kFeedRegisters>();
    if (!gemm.beside_previous) cuda::wait_for_previous();
    cuda::let_next_start();
    if (warp == Config::kWarps) {
      copy_items<Weights>(gemm, shared);
    } else if (warp == Config::kWarps + 1) {
      if (Config::kCluster == 1 || ptx::cluster_rank() == 0)
        scout_items<Kind>(gemm, shared, lane);
      else if (Kind == GemmKind::kGateUp && gemm.finished != nullptr && lane == 0)
        publish_all_finished(gemm, shared);
    } else if (gathers(gemm)) {
      gather_tiles<Config::kColumns>(gemm, items_of_tile<Config>(gemm) * Config::kCluster, lane);
    }
    if (gemm.beside_previous) cuda::wait_for_previous();
  }
  if constexpr (Config::kCluster > 1) {  // another block may still arrive at this one's barriers
    __syncwarp();
    ptx::meet_cluster();
  }
}

}  // namespace megamoe::sm90
