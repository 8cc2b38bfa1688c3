// The loop for few rows an expert: every active expert's weights are read once, and everything else hides behind that.
//
// A block has eight warps that multiply, 16 features of a 128-feature panel each, and one that copies. An item of work
// is (tile of tokens, panel, part of K); blocks claim items until none are left. The copying warp fills a ring of
// stages of up to 256 K: weights by one bulk copy, tokens by one a row. Work of a stage is described in the ring
// itself, so that the multiplying warps know nothing of claims.
//
// Where K is cut into parts, kGateUp's sums meet through global memory: the last of a tile's parts to arrive adds all
// of them, in the order of K whoever it is. kDown leaves its parts to combine.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/sm90/decode.cuh"
#include "backends/cuda/sm90/epilogue.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/stream_config.h"

namespace megamoe::sm90 {

struct StreamStage {
  cuda::TokenTile tile;
  std::int32_t item;  // tile * panels + panel; -1: no more work
  std::int32_t panel;
  std::int32_t part;
  std::int32_t k_begin;  // of this stage
  std::int32_t k_count;  // a multiple of 16
  std::int32_t last;     // stage of its item
};

// The rows of a call with few choices, ordered by one warp.
struct OwnOrder {
  cuda::TokenTile tiles[kOwnOrderChoices];
  std::int32_t tile_count;
  std::int32_t choice_of[kOwnOrderChoices];
};

template <class Config>
struct StreamShared {
  alignas(128) std::byte weights[Config::kStages][Config::kWeightBytes];
  alignas(128) std::byte tokens[Config::kStages][Config::kTokenBytes];
  std::uint64_t full[Config::kStages];
  std::uint64_t empty[Config::kStages];
  StreamStage stage[Config::kStages];
  OwnOrder own;
};

// The order that order_rows gives (common/order_rows.cu); its tiles in another sequence. All lanes of a warp.
__device__ __forceinline__ void order_own_rows(const Gemm& gemm, OwnOrder& own, int lane) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  const int id = lane < gemm.own_choices ? __ldcg(gemm.own_ids + lane) : -1;
  const bool routed = id >= 0 && id < gemm.own_experts;
  int row = 0;    // of this choice
  int begin = 0;  // first row of its expert
  for (int other = 0; other < gemm.own_choices; ++other) {
    const int its = __shfl_sync(kAll, routed ? id : -1, other);
    begin += its >= 0 && its < id;
    row += its >= 0 && (its < id || (its == id && other < lane));
  }
  const unsigned same = __match_any_sync(kAll, routed ? id : -1 - lane);
  const bool leads = routed && (same & ((1u << lane) - 1)) == 0;
  if (routed) own.choice_of[row] = lane;

  const int rows = __popc(same);
  const int tiles = leads ? (rows + gemm.tiles.max_rows - 1) / gemm.tiles.max_rows : 0;
  int before = tiles;  // inclusive sum
  for (int step = 1; step < 32; step *= 2) {
    const int more = __shfl_up_sync(kAll, before, step);
    if (lane >= step) before += more;
  }
  if (lane == 31) own.tile_count = before;
  before -= tiles;
  if (leads) {
    const int even = (rows + tiles - 1) / tiles;
    const int size = (even + gemm.tiles.step - 1) / gemm.tiles.step * gemm.tiles.step;
    for (int i = 0; i < tiles; ++i) own.tiles[before + i] = {id, begin + i * size, min(size, rows - i * size), 0};
  }
  __syncwarp();
}

// Walks the stages of claimed items; one thread's.
template <class Config>
class StreamCursor {
 public:
  __device__ __forceinline__ StreamCursor(const Gemm& gemm, const OwnOrder& own)
      : gemm_(gemm), tiles_(gemm.own_ids != nullptr ? own.tiles : nullptr) {
    items_per_tile_ = gemm.weights.panels * gemm.parts;
    steps_ = static_cast<int>(steps_of(gemm.weights.k));
    const int stages = (steps_ + Config::kStageSteps - 1) / Config::kStageSteps;
    steps_per_part_ = (stages + gemm.parts - 1) / gemm.parts * Config::kStageSteps;
  }

  __device__ __forceinline__ void start(const OwnOrder& own) {
    items_ = (tiles_ != nullptr ? own.tile_count : __ldcg(gemm_.tiles.count)) * items_per_tile_;
    claimed_ = static_cast<int>(blockIdx.x);
  }

  // item -1 after the last. No part of K is empty: the plan sees to that.
  __device__ __forceinline__ StreamStage next() {
    StreamStage stage{};
    if (step_ >= end_) {
      if (claimed_ >= items_) {
        stage.item = -1;
        return stage;
      }
      open(claimed_);
      // One ahead, so that the atomic's way to the second-level cache and back hides behind this item's copies.
      // With own tiles nobody has set the counter to zero yet: blocks take every so-manieth item.
      claimed_ = tiles_ != nullptr ? claimed_ + static_cast<int>(gridDim.x)
                                   : static_cast<int>(gridDim.x) + atomicAdd(gemm_.claims, 1);
    }
    stage.tile = tile_;
    stage.item = tile_index_ * gemm_.weights.panels + panel_;
    stage.panel = panel_;
    stage.part = part_;
    stage.k_begin = step_ * kTileK;
    step_ = min(step_ + Config::kStageSteps, end_);
    stage.k_count = min(step_ * kTileK, gemm_.weights.k) - stage.k_begin;
    stage.last = step_ >= end_;
    return stage;
  }

 private:
  __device__ __forceinline__ void open(int item) {
    tile_index_ = item / items_per_tile_;
    const int rest = item % items_per_tile_;
    panel_ = rest / gemm_.parts;
    part_ = rest % gemm_.parts;
    if (tiles_ != nullptr) {
      tile_ = tiles_[tile_index_];
    } else {
      const int4 tile = __ldcg(reinterpret_cast<const int4*>(gemm_.tiles.tiles + tile_index_));
      tile_ = {tile.x, tile.y, tile.z, 0};
    }
    step_ = part_ * steps_per_part_;
    end_ = min(step_ + steps_per_part_, steps_);
  }

  const Gemm& gemm_;
  const cuda::TokenTile* tiles_;  // own ones, or nullptr
  int items_per_tile_, steps_, steps_per_part_;
  int items_ = 0, claimed_ = 0;
  cuda::TokenTile tile_{};
  int tile_index_ = 0, panel_ = 0, part_ = 0, step_ = 0, end_ = 0;
};

// ---- The copying warp -----------------------------------------------------------------------------------------------

// Describes the stage in its slot and asks for its weights. Lane 0 only.
template <class Weights, class Config>
__device__ __forceinline__ void copy_weights(const Gemm& gemm, StreamShared<Config>& shared, int slot,
                                             const StreamStage& stage, std::uint64_t policy) {
  shared.stage[slot] = stage;
  if (stage.item < 0) return ptx::mbarrier_arrive(&shared.full[slot]);
  constexpr int kStepBytes = kPanelTiles * Weights::kTileBytes;
  const auto steps = static_cast<std::uint32_t>((stage.k_count + kTileK - 1) / kTileK);
  const std::byte* from = gemm.weights.packed + stage.tile.expert * gemm.weights.expert_bytes +
                          stage.panel * panel_bytes(Weights::kFormat, gemm.weights.k) +
                          std::int64_t{stage.k_begin / kTileK} * kStepBytes;
  const std::uint32_t token_bytes = static_cast<std::uint32_t>(stage.tile.rows * stage.k_count) * 2;
  ptx::mbarrier_arrive_expect(&shared.full[slot], steps * kStepBytes + token_bytes);
  ptx::bulk_copy(shared.weights[slot], from, steps * kStepBytes, &shared.full[slot], policy);
}

// A lane's row of the tile that it copies, remembered from stage to stage.
struct TokenRow {
  std::int32_t item = -1;
  const std::uint16_t* x = nullptr;
};

// Asks for the tokens of a stage that copy_weights described: a row a lane.
template <class Config>
__device__ __forceinline__ void copy_tokens(const Gemm& gemm, StreamShared<Config>& shared, int slot, int lane,
                                            TokenRow& mine, std::uint64_t policy) {
  const StreamStage& stage = shared.stage[slot];
  if (stage.item < 0 || lane >= stage.tile.rows) return;
  if (mine.item != stage.item) {
    mine.item = stage.item;
    std::int64_t row = stage.tile.row + lane;
    if (gemm.gather_top_k != 0) {
      const int choice = gemm.own_ids != nullptr ? shared.own.choice_of[row] : __ldcg(gemm.choice_of + row);
      row = choice / gemm.gather_top_k;
    }
    mine.x = gemm.x + row * gemm.weights.k;
  }
  ptx::bulk_copy(shared.tokens[slot] + lane * Config::kTokenStride, mine.x + stage.k_begin,
                 static_cast<std::uint32_t>(stage.k_count) * 2, &shared.full[slot], policy);
}

template <class Weights, class Config>
__device__ __forceinline__ void copy_all(const Gemm& gemm, StreamShared<Config>& shared, int lane) {
  constexpr int kStages = Config::kStages;
  const std::uint64_t weights_policy = ptx::evict_first_policy();
  const std::uint64_t tokens_policy = ptx::evict_last_policy();
  const auto wait = [] {
    cuda::wait_for_previous();
    cuda::let_next_start();
  };
  // Who has no tile list yet waits for it; who has it asks for weights before the tokens exist; who makes it asks for
  // tokens too, which the caller wrote.
  const bool own = gemm.own_ids != nullptr;
  bool waited = !gemm.tiles_are_ready && !own;
  if (waited) wait();
  if (own) order_own_rows(gemm, shared.own, lane);
  StreamCursor<Config> cursor(gemm, shared.own);
  if (lane == 0) cursor.start(shared.own);
  TokenRow mine;
  for (int i = 0;; ++i) {
    const int slot = i % kStages;
    if (i >= kStages) ptx::mbarrier_wait(&shared.empty[slot], (i / kStages - 1) & 1);
    if (lane == 0) copy_weights<Weights>(gemm, shared, slot, cursor.next(), weights_policy);
    __syncwarp();
    const bool done = shared.stage[slot].item < 0;
    if (waited || own) copy_tokens(gemm, shared, slot, lane, mine, tokens_policy);
    if (!waited && (done || i == kStages - 1)) {
      wait();
      waited = true;
      for (int s = 0; s <= i && !own; ++s) copy_tokens(gemm, shared, s, lane, mine, tokens_policy);
    }
    if (done) return;
  }
}

// ---- The multiplying warps ------------------------------------------------------------------------------------------

// Adds one step of 64 K, or its first `count` times 16, to the sums of 8 * Blocks tokens.
template <int Blocks, class Weights>
__device__ __forceinline__ void multiply_step(const std::byte* tile, int tile_lane, std::uint32_t tokens,
                                              int token_stride, int count, float (&sum)[Blocks][4]) {
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
    weights.template fragment<Step>(a);
#pragma unroll
    for (int n = 0; n < Blocks; ++n) ptx::mma_m16n8k16(sum[n], a, b[n][2 * Step], b[n][2 * Step + 1]);
  };
  multiply.template operator()<0>();
  multiply.template operator()<1>();
  multiply.template operator()<2>();
  multiply.template operator()<3>();
}

template <int Blocks>
__device__ __forceinline__ float4& partial(const Gemm& gemm, const StreamStage& stage, int part, int block) {
  const std::int64_t slot = (std::int64_t{stage.item} * gemm.parts + part) * (gemm.tiles.max_rows / 8) + block;
  return reinterpret_cast<float4*>(gemm.partials)[slot * kStreamThreads + threadIdx.x];
}

// Leaves this part's sums in memory. True for the last to come, which then has the sums of all parts.
template <int Blocks>
__device__ __forceinline__ bool meet(const Gemm& gemm, const StreamStage& stage, int warp, int lane,
                                     float (&sum)[Blocks][4]) {
  cuda::wait_for_previous();  // with own tiles: who sets the arrivals to zero may still be at it
#pragma unroll
  for (int n = 0; n < Blocks; ++n)
    __stcg(&partial<Blocks>(gemm, stage, stage.part, n), make_float4(sum[n][0], sum[n][1], sum[n][2], sum[n][3]));
  __threadfence();
  __syncwarp();
  int before = 0;
  if (lane == 0) before = atomicAdd(gemm.arrivals + std::int64_t{stage.item} * kStreamWarps + warp, 1);
  before = __shfl_sync(0xFFFFFFFFu, before, 0);
  if (before != gemm.parts - 1) return false;
  __threadfence();
#pragma unroll
  for (int n = 0; n < Blocks; ++n) {
    float4 all = __ldcg(&partial<Blocks>(gemm, stage, 0, n));
    for (int part = 1; part < gemm.parts; ++part) {
      const float4 more = __ldcg(&partial<Blocks>(gemm, stage, part, n));
      all.x += more.x;
      all.y += more.y;
      all.z += more.z;
      all.w += more.w;
    }
    sum[n][0] = all.x;
    sum[n][1] = all.y;
    sum[n][2] = all.z;
    sum[n][3] = all.w;
  }
  return true;
}

// One item from its first stage, which slot `i` holds, to its result. Returns the stage after its last.
template <GemmKind Kind, int Blocks, class Weights, class Config>
__device__ __forceinline__ int multiply_item(const Gemm& gemm, StreamShared<Config>& shared, int i, int warp,
                                             int lane) {
  constexpr int kStages = Config::kStages;
  float sum[Blocks][4] = {};
  StreamStage stage = shared.stage[i % kStages];
  const int tile_lane = warp % 4 * 32 + lane;
  const std::uint32_t token = static_cast<std::uint32_t>(lane % 8 * Config::kTokenStride + lane / 8 * 16);
  for (;;) {
    const int slot = i % kStages;
    const std::byte* tiles = shared.weights[slot] + warp / 4 * Weights::kTileBytes;
    const std::uint32_t tokens = ptx::shared_address(shared.tokens[slot]) + token;
    if (stage.k_count == Config::kStageSteps * kTileK) {
#pragma unroll
      for (int step = 0; step < Config::kStageSteps; ++step)
        multiply_step<Blocks, Weights>(tiles + step * kPanelTiles * Weights::kTileBytes, tile_lane,
                                       tokens + step * kTileK * 2, Config::kTokenStride, 4, sum);
    } else {
      for (int step = 0; step * kTileK < stage.k_count; ++step)
        multiply_step<Blocks, Weights>(tiles + step * kPanelTiles * Weights::kTileBytes, tile_lane,
                                       tokens + step * kTileK * 2, Config::kTokenStride, stage.k_count / 16 - step * 4,
                                       sum);
    }
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(&shared.empty[slot]);
    ++i;
    if (stage.last) break;
    ptx::mbarrier_wait(&shared.full[i % kStages], i / kStages & 1);
    stage = shared.stage[i % kStages];
  }

  if (Kind == GemmKind::kGateUp && gemm.parts > 1 && !meet<Blocks>(gemm, stage, warp, lane, sum)) return i;
  const Epilogue<Kind> epilogue(gemm, stage.tile, 0, stage.panel, warp, lane, Weights::kScale, stage.part);
  epilogue.store(sum, 0);
  return i;
}

template <GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ void multiply_all(const Gemm& gemm, StreamShared<Config>& shared, int warp, int lane) {
  constexpr int kStages = Config::kStages;
  constexpr int kBlocks = Config::kMaxRows / 8;
  for (int i = 0;;) {
    ptx::mbarrier_wait(&shared.full[i % kStages], i / kStages & 1);
    const StreamStage& stage = shared.stage[i % kStages];
    if (stage.item < 0) return;
    const int blocks = (stage.tile.rows + 7) / 8;
    if (blocks == 1)
      i = multiply_item<Kind, 1, Weights>(gemm, shared, i, warp, lane);
    else if (kBlocks >= 2 && blocks == 2)
      i = multiply_item < Kind, kBlocks >= 2 ? 2 : 1, Weights > (gemm, shared, i, warp, lane);
    else if (kBlocks >= 3 && blocks == 3)
      i = multiply_item < Kind, kBlocks >= 3 ? 3 : 1, Weights > (gemm, shared, i, warp, lane);
    else
      i = multiply_item<Kind, kBlocks, Weights>(gemm, shared, i, warp, lane);
  }
}

template <GemmKind Kind, class Weights, class Config>
__global__ void __launch_bounds__(kStreamThreads + 32, Config::kBlocksPerSm)
    stream_gemm_kernel(const __grid_constant__ Gemm gemm) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<StreamShared<Config>*>(memory);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < Config::kStages; ++s) {
      ptx::mbarrier_init(&shared.full[s], 1);
      ptx::mbarrier_init(&shared.empty[s], kStreamWarps);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp == kStreamWarps)
    copy_all<Weights>(gemm, shared, lane);
  else
    multiply_all<Kind, Weights>(gemm, shared, warp, lane);
}

}  // namespace megamoe::sm90
