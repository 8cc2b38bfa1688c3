// Two kernels with a bug each, for compute-sanitizer to find: a tool that finds nothing here would find nothing in the
// library either. No test runs them by itself (scripts/gpu_check.sh does).
//
// usage: cuda_planted_bugs none|out-of-bounds|race
#include <cuda_runtime.h>

#include <cstdio>
#include <string_view>

namespace {

constexpr int kThreads = 256;

// With `past` 1 the last thread writes one element past the end.
__global__ void fill(int* values, int past) { values[threadIdx.x + static_cast<unsigned>(past)] = 1; }

// Each thread reads what its neighbour, for some of them in another warp, wrote.
template <bool kWaits>
__global__ void rotate(int* values) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = values[threadIdx.x];
  if constexpr (kWaits) __syncthreads();
  values[threadIdx.x] = shared[(threadIdx.x + 1) % kThreads];
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view bug = count == 2 ? arguments[1] : "";
  if (bug != "none" && bug != "out-of-bounds" && bug != "race") {
    std::fputs("usage: cuda_planted_bugs none|out-of-bounds|race\n", stderr);
    return 2;
  }
  int* values = nullptr;
  cudaError_t status = cudaMalloc(&values, kThreads * sizeof(int));
  if (status == cudaSuccess) {
    fill<<<1, kThreads>>>(values, bug == "out-of-bounds" ? 1 : 0);
    if (bug == "race")
      rotate<false><<<1, kThreads>>>(values);
    else
      rotate<true><<<1, kThreads>>>(values);
    status = cudaDeviceSynchronize();
    (void)cudaFree(values);
  }
  if (status == cudaSuccess) return 0;
  std::fprintf(stderr, "cuda_planted_bugs: the CUDA runtime answered %s\n", cudaGetErrorName(status));
  return 1;
}
