// Where the sums of one item that several warps or blocks hold are added. Always in the order of K, whoever was faster:
// the bits do not depend on timing.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/stream_stage.cuh"

namespace megamoe::sm90 {

__device__ __forceinline__ float4 as_float4(const float (&sum)[4]) { return {sum[0], sum[1], sum[2], sum[3]}; }

__device__ __forceinline__ void set(float (&sum)[4], float4 from) {
  sum[0] = from.x;
  sum[1] = from.y;
  sum[2] = from.z;
  sum[3] = from.w;
}

__device__ __forceinline__ float4 add(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

// Adds the sums of the groups of warps, in shared memory. The warps of the same 16 features meet, one of each group;
// for the one of group `finisher` the answer is true, and it has them all.
template <class Config>
__device__ __forceinline__ bool meet_in_block(StreamShared<Config>& shared, int warp, int lane, int finisher,
                                              float (&sum)[4]) {
  const int group = warp / Config::kGroupWarps;
  const int place = warp % Config::kGroupWarps;
  constexpr int kMeeting = 32 * Config::kSplits;
  float4* const sums = shared.sums + place * 32 + lane;  // of the groups but the finisher, in their order
  ptx::meet_threads<kMeeting>(1 + place);                // the item before has been read
  if (group != finisher) sums[(group - (group > finisher)) * Config::kGroupThreads] = as_float4(sum);
  ptx::meet_threads<kMeeting>(1 + place);
  if (group != finisher) return false;
  float4 all{};
#pragma unroll
  for (int g = 0; g < Config::kSplits; ++g) {
    const float4 its = g == finisher ? as_float4(sum) : sums[(g - (g > finisher)) * Config::kGroupThreads];
    all = g == 0 ? its : add(all, its);
  }
  set(sum, all);
  return true;
}

template <class Config>
__device__ __forceinline__ float4& partial(const Gemm& gemm, const StreamStage& stage, int part, int block,
                                           int thread) {
  const std::int64_t slot = (std::int64_t{stage.item} * gemm.parts + part) * Config::kBlocks + block;
  return reinterpret_cast<float4*>(gemm.partials)[slot * Config::kGroupThreads + thread];
}

// Leaves this part's sums in memory. True for the last to come, which then has the sums of all parts. Each warp of an
// item's features for itself; `place` is its place among them.
template <class Config, int Blocks>
__device__ __forceinline__ bool meet_in_memory(const Gemm& gemm, const StreamStage& stage, int place, int lane,
                                               float (&sum)[Blocks][4]) {
  const int thread = place * 32 + lane;
  cuda::wait_for_previous();  // with own tiles: who sets the arrivals to zero may still be at it
#pragma unroll
  for (int n = 0; n < Blocks; ++n) __stcg(&partial<Config>(gemm, stage, stage.part, n, thread), as_float4(sum[n]));
  __threadfence();
  __syncwarp();
  int before = 0;
  if (lane == 0) before = atomicAdd(gemm.arrivals + std::int64_t{stage.item} * Config::kGroupWarps + place, 1);
  before = __shfl_sync(0xFFFFFFFFu, before, 0);
  if (before != gemm.parts - 1) return false;
  __threadfence();
#pragma unroll
  for (int n = 0; n < Blocks; ++n) {
    float4 all = __ldcg(&partial<Config>(gemm, stage, 0, n, thread));
    for (int part = 1; part < gemm.parts; ++part)
      all = add(all, __ldcg(&partial<Config>(gemm, stage, part, n, thread)));
    set(sum[n], all);
  }
  return true;
}

}  // namespace megamoe::sm90
