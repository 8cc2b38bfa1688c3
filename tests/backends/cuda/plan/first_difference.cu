#include <algorithm>

#include "backends/cuda/plan/first_difference.h"
#include "base/cuda_check.h"

namespace megamoe::sm90::test {
namespace {

constexpr std::size_t kThreads = 256;
constexpr std::size_t kMostBlocks = 1024;

__global__ void first_difference(const std::byte* a, const std::byte* b, std::size_t bytes, std::uint64_t base,
                                 unsigned long long* first) {
  for (std::size_t i = blockIdx.x * kThreads + threadIdx.x; i < bytes; i += gridDim.x * kThreads)
    if (a[i] != b[i]) atomicMin(first, static_cast<unsigned long long>(base + i));
}

}  // namespace

void find_first_difference(const std::byte* a, const std::byte* b, std::size_t bytes, std::uint64_t base,
                           std::uint64_t* first, cudaStream_t stream) {
  if (bytes == 0) return;
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  const auto blocks = static_cast<unsigned>(std::min((bytes + kThreads - 1) / kThreads, kMostBlocks));
  first_difference<<<blocks, static_cast<unsigned>(kThreads), 0, stream>>>(
      a, b, bytes, base, reinterpret_cast<unsigned long long*>(first));
  cuda_check(cudaGetLastError(), "comparison");
}

}  // namespace megamoe::sm90::test
