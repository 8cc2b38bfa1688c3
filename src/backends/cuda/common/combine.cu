// The weighted sum of each token's routed rows, and of its shared expert's row, in the fixed order of the numeric
// contract. A thread owns 16 bytes of y of one token; the loads of up to kBatch choices, with all their parts, are in
// flight together, so that one token costs two memory latencies and many tokens run at the speed of the memory.
#include <cmath>
#include <type_traits>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::cuda {
namespace {

constexpr int kBatch = 8;  // choices
// Few tokens: small blocks, so that the columns of one token spread over the whole device.
constexpr int kThreads = 128;
constexpr int kThreadsOfFewTokens = 32;
constexpr std::int64_t kFewTokens = 64;

// 16 bytes of y.
template <class Y>
inline constexpr int kColumnsOf = 16 / sizeof(Y);
template <int kCount>
struct Columns {
  float of[kCount] = {};

  __device__ void add(const Columns& other) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) of[i] += other.of[i];
  }
  __device__ void fma(float factor, const Columns& other) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) of[i] = std::fma(factor, other.of[i], of[i]);
  }
};

__device__ Columns<4> load(const float* y, std::int64_t element) {
  const float4 four = *reinterpret_cast<const float4*>(y + element);
  return {{four.x, four.y, four.z, four.w}};
}
__device__ Columns<8> columns_of(const uint4& bits) {
  const std::uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
  Columns<8> columns;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    columns.of[i] = float_from_bits(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xFFFF0000u);
  return columns;
}
__device__ const Columns<4>& columns_of(const Columns<4>& columns) { return columns; }
// kCount columns of y in f32, whatever the routed rows' y is.
template <int kCount>
__device__ Columns<kCount> load_f32(const float* y, std::int64_t element) {
  Columns<kCount> columns;
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const Columns<4> four = load(y, element + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) columns.of[i + j] = four.of[j];
  }
  return columns;
}

template <int kCount>
__device__ void store(const Combine& call, std::int64_t element, const Columns<kCount>& sum) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const float* const four = sum.of + i;
    if (call.output_f32 != nullptr) {
      *reinterpret_cast<float4*>(call.output_f32 + element + i) = {four[0], four[1], four[2], four[3]};
    } else {
      const ushort4 rounded{bf16_from_float(four[0]), bf16_from_float(four[1]), bf16_from_float(four[2]),
                            bf16_from_float(four[3])};
      *reinterpret_cast<ushort4*>(call.output + element + i) = rounded;
    }
  }
}

// The sum of a row's parts; kParts of 0: call.parts, whatever it is.
template <int kParts>
__device__ void add_parts(const float* y, std::int64_t parts, std::int64_t part_stride, const bool (&wanted)[kBatch],
                          const std::int64_t (&element)[kBatch], Columns<kColumnsOf<float>> (&sums)[kBatch]) {
#pragma unroll
  for (int j = 0; j < kBatch; ++j)
    if (wanted[j]) sums[j] = load(y, element[j]);
#pragma unroll kParts == 0 ? 1 : kParts
  for (std::int64_t part = 1; part < (kParts == 0 ? parts : kParts); ++part) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (wanted[j]) sums[j].add(load(y, part * part_stride + element[j]));
  }
}

// Of bf16, which comes with large batches, at most 64 registers: 8 blocks an SM.
template <int kParts, class Y>
__global__ void __launch_bounds__(kThreads, sizeof(Y) == 2 ? 8 : 1)
    megamoe_combine(Combine call, std::int64_t blocks_of_token) {
  constexpr int kColumns = kColumnsOf<Y>;  // of a thread
  const std::int64_t token = blockIdx.x / blocks_of_token;
  const std::int64_t thread = (blockIdx.x % blocks_of_token) * blockDim.x + threadIdx.x;
  const bool active = thread * kColumns < call.hidden;
  // Threads past the row's end repeat its last columns: their warp needs them to pass on choices.
  const std::int64_t column = active ? thread * kColumns : call.hidden - kColumns;

  const bool weighted = call.topk_weights != nullptr;
  bool poisoned = false;
  Columns<kColumns> sum;
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
    // bf16 as it comes until it is added: half of the registers, so that more threads have loads in flight. Nobody
    // reads it again.
    std::conditional_t<sizeof(Y) == 2, uint4, Columns<kColumns>> y[kBatch];
    if constexpr (sizeof(Y) == 2) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j)
        if (wanted[j]) y[j] = __ldcs(reinterpret_cast<const uint4*>(call.y_bf16 + element[j]));
    } else {
      add_parts<kParts>(call.y, call.parts, call.part_rows * call.hidden, wanted, element, y);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (const float weight = __shfl_sync(~0u, my_weight, j); wanted[j]) sum.fma(weight, columns_of(y[j]));
  }

  const std::int64_t element = token * call.hidden + column;
  if (call.shared_y != nullptr) {
    Columns<kColumns> y = load_f32<kColumns>(call.shared_y, element);
    for (std::int64_t part = 1; part < call.shared_parts; ++part)
      y.add(load_f32<kColumns>(call.shared_y, part * call.tokens * call.hidden + element));
    sum.fma(call.shared_factor != nullptr ? call.shared_factor[token] : 1.0f, y);
  }
  if (poisoned) {
#pragma unroll
    for (float& column : sum.of) column = float_from_bits(kFloatQuietNanBits);
  }
  if (active) store(call, element, sum);
}

auto kernel_for(const Combine& call) {
  if (call.y_bf16 != nullptr) return megamoe_combine<1, std::uint16_t>;
  return call.parts == 1   ? megamoe_combine<1, float>
         : call.parts == 2 ? megamoe_combine<2, float>
         : call.parts == 4 ? megamoe_combine<4, float>
                           : megamoe_combine<0, float>;
}

}  // namespace

void combine(const Combine& call, cudaStream_t stream) {
  if (call.tokens == 0) return;
  const std::int64_t threads = call.tokens < kFewTokens ? kThreadsOfFewTokens : kThreads;
  const int columns = call.y_bf16 != nullptr ? kColumnsOf<std::uint16_t> : kColumnsOf<float>;
  const std::int64_t blocks_of_token = (call.hidden / columns + threads - 1) / threads;
  const std::int64_t blocks = call.tokens * blocks_of_token;
  if (blocks > INT32_MAX)
    throw Error(Code::kUnsupported, "combine: asked ", call.tokens, " tokens of ", call.hidden,
                " columns, accepted: up to ", INT32_MAX / blocks_of_token, " tokens");
  launch(kernel_for(call), static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0, stream, call,
         blocks_of_token);
}

}  // namespace megamoe::cuda
