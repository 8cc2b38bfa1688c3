#include <cuda_runtime.h>

#include "base/cuda_check.h"
#include "bench/cuda_probes.h"
#include "bench/random_bits.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::bench {
namespace {

constexpr int kThreads = 512;
constexpr int kFillBlocks = 4096;
constexpr int kLoads = static_cast<int>(kReadPiece / (kThreads * sizeof(uint4)));  // in flight in each thread
static_assert(kLoads * kThreads * sizeof(uint4) == kReadPiece);
constexpr std::uint32_t kUnlikelySum = 0x5EEDF00Du;
constexpr std::uint64_t kWordStride = 0xD1B54A32D192ED03u;  // odd: every word has a seed of its own

__device__ std::size_t first_index() { return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ std::size_t thread_count() { return static_cast<std::size_t>(gridDim.x) * blockDim.x; }

__global__ void fill_random_kernel(std::uint64_t* to, std::size_t count, std::uint64_t seed) {
  for (std::size_t i = first_index(); i < count; i += thread_count()) to[i] = RandomBits(seed + i * kWordStride).next();
}

__global__ void fill_normal_bf16_kernel(std::uint16_t* to, std::size_t count, std::uint64_t seed) {
  for (std::size_t i = first_index(); i < count; i += thread_count())
    to[i] = bf16_from_float(RandomBits(seed + i * kWordStride).normal());
}

__global__ void __launch_bounds__(kThreads)
    read_all_kernel(const uint4* from, std::size_t pieces, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  for (std::size_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const uint4* at = from + piece * (kLoads * kThreads) + threadIdx.x;
    uint4 words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) words[i] = __ldcs(at + i * kThreads);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) sum += words[i].x ^ words[i].y ^ words[i].z ^ words[i].w;
  }
  if (sum == kUnlikelySum) *sink = sum;
}

__global__ void hold_kernel(std::uint64_t nanoseconds) {
  std::uint64_t start = 0, now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do {
    __nanosleep(1000);
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}

}  // namespace

void fill_random(std::span<std::byte> to, std::uint64_t seed, cudaStream_t stream) {
  fill_random_kernel<<<kFillBlocks, kThreads, 0, stream>>>(reinterpret_cast<std::uint64_t*>(to.data()),
                                                           to.size() / sizeof(std::uint64_t), seed);
  cuda_check(cudaGetLastError(), "fill_random");
}

void fill_normal_bf16(std::span<std::uint16_t> to, std::uint64_t seed, cudaStream_t stream) {
  fill_normal_bf16_kernel<<<kFillBlocks, kThreads, 0, stream>>>(to.data(), to.size(), seed);
  cuda_check(cudaGetLastError(), "fill_normal_bf16");
}

void read_all(std::span<const std::byte> from, int blocks, std::uint32_t* sink, cudaStream_t stream) {
  read_all_kernel<<<blocks, kThreads, 0, stream>>>(reinterpret_cast<const uint4*>(from.data()),
                                                   from.size() / kReadPiece, sink);
  cuda_check(cudaGetLastError(), "read_all");
}

void hold(double seconds, cudaStream_t stream) {
  hold_kernel<<<1, 1, 0, stream>>>(static_cast<std::uint64_t>(seconds * 1e9));
  cuda_check(cudaGetLastError(), "hold");
}

}  // namespace megamoe::bench
