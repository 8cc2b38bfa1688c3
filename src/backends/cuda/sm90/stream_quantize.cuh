// NVFP4 activations of short calls: the copying warp makes a stage's columns itself, from the rows as they are, so that
// no launch in front has to. Bytes and scales are those of quantize_rows (common/quantize_rows.cu), recipe rne. A lane
// takes a block of 16 columns.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "backends/cuda/common/quantize_block.cuh"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/stream_stage.cuh"

namespace megamoe::sm90 {

// A lane's row of the tile: the source's row, and its global scale.
struct QuantizedRow {
  std::int32_t item = -1;
  std::int32_t source = -1;
  float scale = 0.0f;
  bool computed = false;  // scale was, from the source alone
};

template <GemmKind Kind>
class RowSource {
 public:
  using Block = std::conditional_t<Kind == GemmKind::kGateUp, cuda::Bf16Block, cuda::F32Block>;

  __device__ __forceinline__ explicit RowSource(const Gemm& gemm) : gemm_(gemm) {}

  __device__ __forceinline__ Block load(std::int32_t row, int k) const {
    const std::int64_t at = std::int64_t{row} * gemm_.weights.k + k;
    Block block;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (Kind == GemmKind::kGateUp)
        block.load_chunk(i, gemm_.x + at + i * cuda::kChunk);
      else
        block.load_chunk(i, gemm_.x_f32 + at + i * cuda::kChunk);
    }
    return block;
  }

  // The row's global scale, computed. All lanes of the warp.
  __device__ __forceinline__ float scale(std::int32_t row, int lane) const {
    std::uint32_t bits = 0;
    if constexpr (Kind == GemmKind::kGateUp) {
#pragma unroll 4
      for (int k = lane * kNvfp4Block; k < gemm_.weights.k; k += 32 * kNvfp4Block)
        bits = max(bits, cuda::amax_bits<Block, cuda::BlockRecipe::kRne>(load(row, k)));
    } else {
      const int parts = gemm_.weights.k / kAmaxChannels;
      const float* const amax = gemm_.x_amax + std::int64_t{row} * parts;
#pragma unroll 8
      for (int part = lane; part < parts; part += 32) bits = max(bits, __float_as_uint(__ldcg(amax + part)));
    }
    return cuda::computed_scale<cuda::BlockRecipe::kRne>(__reduce_max_sync(0xFFFFFFFFu, bits));
  }

 private:
  const Gemm& gemm_;
};

// The rows of a new item's tile. All lanes of the warp.
template <GemmKind Kind, class Config>
__device__ __forceinline__ void look_at_rows(const Gemm& gemm, const StreamShared<Config>& shared,
                                             const StreamStage& stage, int lane, QuantizedRow& mine) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  std::int32_t source = -1;
  if (lane < stage.tile.rows) {
    source = stage.tile.row + lane;
    if (Kind == GemmKind::kGateUp) source = shared.own.choice_of[source] / gemm.gather_top_k;
  }
  const float given = gemm.static_scale != nullptr ? gemm.static_scale[stage.tile.expert] : 0.0f;
  const bool known = given != 0.0f || (mine.computed && mine.source == source);
  const unsigned unknown = __ballot_sync(kAll, !known && lane < stage.tile.rows);
#pragma unroll 1
  for (unsigned rows = unknown; rows != 0; rows &= rows - 1) {
    const int row = __ffs(static_cast<int>(rows)) - 1;
    const float scale = RowSource<Kind>(gemm).scale(__shfl_sync(kAll, source, row), lane);
    if (lane == row) mine.scale = scale;
  }
  if (given != 0.0f) mine.scale = given;
  mine.computed = given == 0.0f;
  mine.source = source;
  mine.item = stage.item;
}

// Makes the tokens of a described stage, and says so. All lanes of the warp.
template <GemmKind Kind, class Config>
__device__ __forceinline__ void quantize_tokens(const Gemm& gemm, StreamShared<Config>& shared, int slot, int lane,
                                                QuantizedRow& mine) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  const StreamStage& stage = shared.stage[slot];
  if (stage.item >= 0) {
    if (mine.item != stage.item) look_at_rows<Kind>(gemm, shared, stage, lane, mine);
    if (lane < stage.tile.rows) shared.scale[slot][lane] = mine.scale;
    const bool has_block = lane * kNvfp4Block < stage.k_count;
#pragma unroll 1
    for (int row = 0; row < stage.tile.rows; ++row) {
      const std::int32_t source = __shfl_sync(kAll, mine.source, row);
      const float scale = __shfl_sync(kAll, mine.scale, row);
      if (!has_block) continue;
      using Block = typename RowSource<Kind>::Block;
      const Block block = RowSource<Kind>(gemm).load(source, stage.k_begin + lane * kNvfp4Block);
      cuda::Quantised out;
      cuda::quantize<Block, cuda::BlockRecipe::kRne, true>(block, scale, false, true, out);
      auto* const to = reinterpret_cast<uint4*>(shared.tokens[slot] + row * Config::kTokenStride +
                                                lane * kNvfp4Block * sizeof(std::uint16_t));
      to[0] = {out.values[0], out.values[1], out.values[2], out.values[3]};
      to[1] = {out.values[4], out.values[5], out.values[6], out.values[7]};
    }
  }
  // Each lane for what it wrote; who described the stage has arrived for its weights. Nothing else writes tokens here,
  // so that their readers need no proxy fence.
  ptx::mbarrier_arrive(&shared.full[slot]);
}

}  // namespace megamoe::sm90
