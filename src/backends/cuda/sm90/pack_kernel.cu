#include "backends/cuda/sm90/pack_kernel.h"
#include "base/cuda_check.h"

namespace megamoe::sm90 {
namespace {

__global__ void pack_kernel(WeightFormat format, CanonicalRows from, std::int64_t words, std::uint32_t* packed) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at < words) packed[at] = packed_word(format, from, at);
}

}  // namespace

void pack_on_device(WeightFormat format, const CanonicalRows& from, std::byte* packed, cudaStream_t stream) {
  constexpr unsigned kThreads = 256;
  const std::int64_t features = from.pairs ? 2 * from.rows : from.rows;
  const std::int64_t words = matrix_bytes(format, features, from.k) / 4;
  const auto blocks = static_cast<unsigned>(ceil_div(words, kThreads));
  pack_kernel<<<blocks, kThreads, 0, stream>>>(format, from, words, reinterpret_cast<std::uint32_t*>(packed));
  cuda_check(cudaGetLastError(), "packing weights");
}

}  // namespace megamoe::sm90
