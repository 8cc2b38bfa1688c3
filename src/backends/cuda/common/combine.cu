// The weighted sum of each token's routed rows, and of its shared expert's row, in the fixed order of the numeric
// contract. A thread owns four columns of one token; the loads of up to kBatch choices, with all their parts, are in
// flight together, so that one token costs two memory latencies and many tokens run at the speed of the memory.
#include <cmath>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::cuda {
namespace {

constexpr int kColumns = 4;  // of a thread: 16 bytes of y
constexpr int kBatch = 8;    // choices
// Few tokens: small blocks, so that the columns of one token spread over the whole device.
constexpr int kThreads = 128;
constexpr int kThreadsOfFewTokens = 32;
constexpr std::int64_t kFewTokens = 64;

__device__ float4 add(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ float4 fma(float factor, float4 a, float4 sum) {
  return {std::fma(factor, a.x, sum.x), std::fma(factor, a.y, sum.y), std::fma(factor, a.z, sum.z),
          std::fma(factor, a.w, sum.w)};
}

__device__ float4 load(const float* y, std::int64_t element) { return *reinterpret_cast<const float4*>(y + element); }
__device__ float4 load(const std::uint16_t* y, std::int64_t element) {
  const ushort4 bits = *reinterpret_cast<const ushort4*>(y + element);
  return {bf16_to_float(bits.x), bf16_to_float(bits.y), bf16_to_float(bits.z), bf16_to_float(bits.w)};
}

__device__ void store(const Combine& call, std::int64_t element, float4 sum) {
  if (call.output_f32 != nullptr) {
    *reinterpret_cast<float4*>(call.output_f32 + element) = sum;
  } else {
    const ushort4 rounded{bf16_from_float(sum.x), bf16_from_float(sum.y), bf16_from_float(sum.z),
                          bf16_from_float(sum.w)};
    *reinterpret_cast<ushort4*>(call.output + element) = rounded;
  }
}

// The sum of a row's parts; kParts of 0: call.parts, whatever it is.
template <int kParts, class Y>
__device__ void add_parts(const Y* y, std::int64_t parts, std::int64_t part_stride, const bool (&wanted)[kBatch],
                          const std::int64_t (&element)[kBatch], float4 (&sums)[kBatch]) {
#pragma unroll
  for (int j = 0; j < kBatch; ++j)
    if (wanted[j]) sums[j] = load(y, element[j]);
#pragma unroll kParts == 0 ? 1 : kParts
  for (std::int64_t part = 1; part < (kParts == 0 ? parts : kParts); ++part) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (wanted[j]) sums[j] = add(sums[j], load(y, part * part_stride + element[j]));
  }
}

template <int kParts, bool kRounded>
__global__ void __launch_bounds__(kThreads) megamoe_combine(Combine call, std::int64_t blocks_of_token) {
  const std::int64_t token = blockIdx.x / blocks_of_token;
  const std::int64_t thread = (blockIdx.x % blocks_of_token) * blockDim.x + threadIdx.x;
  const bool active = thread * kColumns < call.hidden;
  // Threads past the row's end repeat its last columns: their warp needs them to pass on choices.
  const std::int64_t column = active ? thread * kColumns : call.hidden - kColumns;

  const bool weighted = call.topk_weights != nullptr;
  bool poisoned = false;
  float4 sum{0.0f, 0.0f, 0.0f, 0.0f};
  for (std::int64_t first = 0; first < call.top_k; first += kBatch) {
    // Lanes 0 to 7 look after one choice each, and tell the warp.
    const std::int64_t mine = first + threadIdx.x % kBatch;
    const std::int64_t choice = token * call.top_k + min(mine, call.top_k - 1);
    const std::int32_t my_id = __ldcg(call.topk_ids + choice);
    const std::int32_t my_row = mine < call.top_k ? __ldcg(call.row_of + choice) : -1;
    const float my_weight = weighted ? __ldcg(call.topk_weights + choice) : 1.0f;
    // Only sums come from the launch in front: who is whose row was written before that one began, and is on its way.
    if (first == 0) {
      wait_for_previous();
      let_next_start();
    }
    poisoned |= __any_sync(~0u, my_id < -1 || my_id >= call.experts) != 0;
    bool wanted[kBatch];
    std::int64_t element[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int32_t row = __shfl_sync(~0u, my_row, j);
      wanted[j] = row >= 0;
      element[j] = row * call.hidden + column;
    }
    float4 y[kBatch];
    if constexpr (kRounded)
      add_parts<1>(call.y_bf16, 1, 0, wanted, element, y);
    else
      add_parts<kParts>(call.y, call.parts, call.part_rows * call.hidden, wanted, element, y);
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (const float weight = __shfl_sync(~0u, my_weight, j); wanted[j]) sum = fma(weight, y[j], sum);
  }

  const std::int64_t element = token * call.hidden + column;
  if (call.shared_y != nullptr) {
    float4 y = load(call.shared_y, element);
    for (std::int64_t part = 1; part < call.shared_parts; ++part)
      y = add(y, load(call.shared_y, part * call.tokens * call.hidden + element));
    sum = fma(call.shared_factor != nullptr ? call.shared_factor[token] : 1.0f, y, sum);
  }
  if (poisoned) {
    const float nan = float_from_bits(kFloatQuietNanBits);
    sum = {nan, nan, nan, nan};
  }
  if (active) store(call, element, sum);
}

auto kernel_for(const Combine& call) {
  if (call.y_bf16 != nullptr) return megamoe_combine<1, true>;
  return call.parts == 1   ? megamoe_combine<1, false>
         : call.parts == 2 ? megamoe_combine<2, false>
         : call.parts == 4 ? megamoe_combine<4, false>
                           : megamoe_combine<0, false>;
}

}  // namespace

void combine(const Combine& call, cudaStream_t stream) {
  if (call.tokens == 0) return;
  const std::int64_t threads = call.tokens < kFewTokens ? kThreadsOfFewTokens : kThreads;
  const std::int64_t blocks_of_token = (call.hidden / kColumns + threads - 1) / threads;
  const std::int64_t blocks = call.tokens * blocks_of_token;
  if (blocks > INT32_MAX)
    throw Error(Code::kUnsupported, "combine: asked ", call.tokens, " tokens of ", call.hidden,
                " columns, accepted: up to ", INT32_MAX / blocks_of_token, " tokens");
  launch(kernel_for(call), static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0, stream, call,
         blocks_of_token);
}

}  // namespace megamoe::cuda
