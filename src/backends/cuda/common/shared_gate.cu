// The shared expert's gate: one block of threads a token. Each thread sums every kThreads-th group of columns, then
// partial sums are halved in a fixed tree, so that a token's bits depend on nothing else in the batch.
#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "moe/activation_math.h"

namespace megamoe::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kColumns = 4;  // of a thread at a time

__device__ double warp_sum(double value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  return value;
}

__global__ void __launch_bounds__(kThreads)
    megamoe_shared_gate(const std::uint16_t* x, const float* gate, std::int64_t hidden, float* factor) {
  __shared__ double of_warps[kThreads / kWarp];
  wait_for_previous();
  let_next_start();
  const std::int64_t token = blockIdx.x;
  const std::uint16_t* const row = x + token * hidden;
  double sum = 0.0;
#pragma unroll 4
  for (std::int64_t column = threadIdx.x * kColumns; column < hidden; column += kThreads * kColumns) {
    const ushort4 a = *reinterpret_cast<const ushort4*>(row + column);
    const float4 b = *reinterpret_cast<const float4*>(gate + column);
    // The products of a bf16 and an f32 are exact in double.
    sum += static_cast<double>(bf16_to_float(a.x)) * static_cast<double>(b.x);
    sum += static_cast<double>(bf16_to_float(a.y)) * static_cast<double>(b.y);
    sum += static_cast<double>(bf16_to_float(a.z)) * static_cast<double>(b.z);
    sum += static_cast<double>(bf16_to_float(a.w)) * static_cast<double>(b.w);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double all = 0.0;
    for (const double of_warp : of_warps) all += of_warp;
    factor[token] = sigmoid(static_cast<float>(all));
  }
}

}  // namespace

void shared_gate(const std::uint16_t* x, const float* gate, std::int64_t tokens, std::int64_t hidden, float* factor,
                 cudaStream_t stream) {
  if (tokens == 0) return;
  if (hidden % kColumns != 0)
    throw Error(Code::kInvalidArgument, "shared gate: asked ", hidden, " columns, accepted: multiples of ", kColumns);
  launch(megamoe_shared_gate, static_cast<unsigned>(tokens), kThreads, 0, stream, x, gate, hidden, factor);
}

}  // namespace megamoe::cuda
