// The copying warp of the streaming loop: it claims items, describes their stages in the ring and asks for weights and
// tokens.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/source_row.cuh"
#include "backends/cuda/sm90/stream_order.cuh"
#include "backends/cuda/sm90/stream_stage.cuh"

namespace megamoe::sm90 {

// Walks the stages of claimed items; one thread's.
template <GemmKind Kind, class Config>
class StreamCursor {
 public:
  __device__ __forceinline__ StreamCursor(const Gemm& gemm, const OwnOrder& own)
      : gemm_(gemm), tiles_(gemm.own_ids != nullptr ? own.tiles : nullptr) {
    // Not every strip of the panels: the last one may be nothing but padding.
    constexpr int kStripChannels = kPanelFeatures / Config::kStrips / (Kind == GemmKind::kGateUp ? 2 : 1);
    strips_ = (gemm.weights.channels + kStripChannels - 1) / kStripChannels;
    steps_ = static_cast<int>(steps_of(gemm.weights.k));
    const int stages = (steps_ + Config::kStageSteps - 1) / Config::kStageSteps;
    steps_per_part_ = (stages + gemm.parts - 1) / gemm.parts * Config::kStageSteps;
  }

  __device__ __forceinline__ void start(const OwnOrder& own) {
    items_ = (tiles_ != nullptr ? own.tile_count : __ldcg(gemm_.tiles.count)) * strips_ * gemm_.parts;
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
      // With own tiles nobody has set the counter to zero: blocks take every so-manieth item.
      claimed_ = tiles_ != nullptr ? claimed_ + static_cast<int>(gridDim.x)
                                   : static_cast<int>(gridDim.x) + atomicAdd(gemm_.claims, 1);
    }
    stage.tile = tile_;
    stage.item = tile_index_ * strips_ + strip_;
    stage.strip = strip_;
    stage.part = part_;
    stage.k_begin = step_ * kTileK;
    step_ = min(step_ + Config::kStageSteps, end_);
    stage.k_count = min(step_ * kTileK, gemm_.weights.k) - stage.k_begin;
    stage.last = step_ >= end_;
    return stage;
  }

 private:
  __device__ __forceinline__ void open(int item) {
    const int items_per_tile = strips_ * gemm_.parts;
    tile_index_ = item / items_per_tile;
    const int rest = item % items_per_tile;
    strip_ = rest / gemm_.parts;
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
  int strips_, steps_, steps_per_part_;
  int items_ = 0, claimed_ = 0;
  cuda::TokenTile tile_{};
  int tile_index_ = 0, strip_ = 0, part_ = 0, step_ = 0, end_ = 0;
};

__device__ __forceinline__ int steps_in(const StreamStage& stage) { return (stage.k_count + kTileK - 1) / kTileK; }

// Describes the stage in its slot, and how many bytes will come. Lane 0 only.
template <class Weights, class Config>
__device__ __forceinline__ void describe(StreamShared<Config>& shared, int slot, const StreamStage& stage) {
  shared.stage[slot] = stage;
  if (stage.item < 0) return ptx::mbarrier_arrive(&shared.full[slot]);
  const int weight_bytes = steps_in(stage) * Config::kTiles * Weights::kTileBytes;
  const int token_bytes = stage.tile.rows * stage.k_count * 2;
  ptx::mbarrier_arrive_expect(&shared.full[slot], static_cast<std::uint32_t>(weight_bytes + token_bytes));
}

// Where a stage's weights lie: of whole panels its steps together, of half a panel a piece every kStepBytes.
template <class Weights, class Config>
struct StageWeights {
  static constexpr int kStepBytes = kPanelTiles * Weights::kTileBytes;
  static constexpr int kPieceBytes = Config::kTiles * Weights::kTileBytes;
  static constexpr bool kTogether = kPieceBytes == kStepBytes;

  const std::byte* from;
  int pieces;
  std::uint32_t bytes;  // of a piece

  __device__ __forceinline__ StageWeights(const Gemm& gemm, const StreamStage& stage) {
    const int steps = steps_in(stage);
    from = gemm.weights.packed + stage.tile.expert * gemm.weights.expert_bytes +
           stage.strip / Config::kStrips * panel_bytes(Weights::kFormat, gemm.weights.k) +
           std::int64_t{stage.k_begin / kTileK} * kStepBytes + stage.strip % Config::kStrips * kPieceBytes;
    pieces = kTogether ? 1 : steps;
    bytes = static_cast<std::uint32_t>(kTogether ? steps * kStepBytes : kPieceBytes);
  }
};

// Asks for the weights of a described stage, a piece a lane.
template <class Weights, class Config>
__device__ __forceinline__ void copy_weights(const Gemm& gemm, StreamShared<Config>& shared, int slot, int lane,
                                             std::uint64_t policy) {
  const StreamStage& stage = shared.stage[slot];
  if (stage.item < 0) return;
  using Pieces = StageWeights<Weights, Config>;
  const Pieces weights(gemm, stage);
  if (lane < weights.pieces)
    ptx::bulk_copy(shared.weights[slot] + lane * Pieces::kPieceBytes, weights.from + lane * Pieces::kStepBytes,
                   weights.bytes, &shared.full[slot], policy);
}

// A lane's row of the tile that it copies, remembered from stage to stage.
struct TokenRow {
  std::int32_t item = -1;
  const std::uint16_t* x = nullptr;
};

// Asks for the tokens of a described stage: a row a lane.
template <class Config>
__device__ __forceinline__ void copy_tokens(const Gemm& gemm, StreamShared<Config>& shared, int slot, int lane,
                                            TokenRow& mine, std::uint64_t policy) {
  const StreamStage& stage = shared.stage[slot];
  if (stage.item < 0 || lane >= stage.tile.rows) return;
  if (mine.item != stage.item) {
    mine.item = stage.item;
    const std::int32_t* const own_choice_of = gemm.own_ids != nullptr ? shared.own.choice_of : nullptr;
    mine.x = gemm.x + std::int64_t{source_row(gemm, own_choice_of, stage.tile.row + lane)} * gemm.weights.k;
  }
  ptx::bulk_copy(shared.tokens[slot] + lane * Config::kTokenStride, mine.x + stage.k_begin,
                 static_cast<std::uint32_t>(stage.k_count) * 2, &shared.full[slot], policy);
}

template <GemmKind Kind, class Weights, class Config>
__device__ __forceinline__ void copy_all(const Gemm& gemm, StreamShared<Config>& shared, int expert, int lane) {
  constexpr int kStages = Config::kStages;
  const std::uint64_t weights_policy = ptx::evict_first_policy();
  const std::uint64_t tokens_policy = ptx::evict_last_policy();
  const auto wait = [] {
    cuda::wait_for_previous();
    cuda::let_next_start();
  };
  // Who knows the tiles before the kernel in front has ended asks for weights before the tokens exist.
  const bool waited = !gemm.tiles_are_ready;
  if (waited) wait();
  if (gemm.own_ids != nullptr) keep_order(gemm, order_choices(gemm, expert, lane), lane, shared.own);
  StreamCursor<Kind, Config> cursor(gemm, shared.own);
  if (lane == 0) cursor.start(shared.own);
  TokenRow mine;
  bool filling = !waited;  // the ring: weights first
  for (int i = 0;; ++i) {
    const int slot = i % kStages;
    if (i >= kStages) ptx::mbarrier_wait(&shared.empty[slot], (i / kStages - 1) & 1);
    if (lane == 0) describe<Weights>(shared, slot, cursor.next());
    __syncwarp();
    const bool done = shared.stage[slot].item < 0;
    copy_weights<Weights>(gemm, shared, slot, lane, weights_policy);
    if (filling && !done && i < kStages - 1) continue;
    if (filling && !waited) wait();
#pragma unroll 1
    for (int s = filling ? 0 : i; s <= i; ++s) copy_tokens(gemm, shared, s % kStages, lane, mine, tokens_policy);
    filling = false;
    if (done) return;
  }
}

}  // namespace megamoe::sm90
