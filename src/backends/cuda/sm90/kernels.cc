#include "backends/cuda/sm90/kernels.h"

#include <vector>

#include "backends/cuda/sm90/instances.h"
#include "base/cuda_check.h"

namespace megamoe::sm90 {
namespace {

void launch_one(const Kernel& kernel, GemmKind kind, const Gemm& gemm, int multiprocessors, cudaStream_t stream) {
  // As common/launch.cuh, by a pointer to the function.
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(kernel.cluster);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(kernel.blocks_per_sm * multiprocessors / kernel.cluster * kernel.cluster));
  config.blockDim = dim3(static_cast<unsigned>(kernel.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(kernel.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = kernel.cluster > 1 ? 2 : 1;
  Gemm copy = gemm;
  void* arguments[] = {&copy};
  cuda_check(cudaLaunchKernelExC(&config, kernel.function[static_cast<int>(kind)], arguments), kernel.name.data());
}

}  // namespace

std::span<const Kernel> kernels() {
  static const std::vector<Kernel> all = [] {
    std::vector<Kernel> rows;
    for (const auto group : {stream_kernels(), small_tile_kernels(), large_tile_kernels()})
      rows.insert(rows.end(), group.begin(), group.end());
    return rows;
  }();
  return all;
}

void allow_shared_memory() {
  for (const Kernel& kernel : kernels())
    for (const void* function : kernel.function)
      cuda_check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel.shared_bytes),
                 kernel.name.data());
}

void launch(const Kernels& kernels, const cuda::TileLists& lists, GemmKind kind, const Gemm& gemm, std::int64_t claims,
            int multiprocessors, cudaStream_t stream) {
  // A launch's blocks begin when all of those in front of it have, and some launches have no tiles. The usual one is
  // the last of the first GEMM and the first of the second, so that it is the second's work that fills the SMs which
  // are done with the first's; in between, and at the end, long items come before short ones.
  constexpr int kFirst[] = {kFew, kMany, kUsual};
  constexpr int kSecond[] = {kUsual, kMany, kFew};
  Gemm its = gemm;
  for (const int i : kind == GemmKind::kGateUp ? kFirst : kSecond) {
    if (kernels[i] == nullptr) continue;
    its.tiles = lists.of[i];
    launch_one(*kernels[i], kind, its, multiprocessors, stream);
    its.beside_previous = true;
    its.claims += claims;
    if (its.gather.claims != nullptr) its.gather.claims += claims;
  }
}

}  // namespace megamoe::sm90
