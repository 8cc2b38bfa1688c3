#include "backends/cuda/sm90/kernels.h"

#include <algorithm>
#include <vector>

#include "backends/cuda/sm90/instances.h"
#include "base/cuda_check.h"

namespace megamoe::sm90 {
namespace {

int blocks_of(const Kernel& kernel, int multiprocessors) {
  return kernel.blocks_per_sm * multiprocessors / kernel.cluster * kernel.cluster;
}

struct Ring {
  std::int32_t tiles = 0;
  std::int32_t first_tiles = 0;  // that blocks begin with
  std::int64_t elements = 0;
};

// What the ring of a launch's gathered tiles holds: those that are multiplied at one time, and twice as many, for all
// blocks begin and end items at about the same time and then want as many new tiles at once. With 24 tiles instead of
// 36, 8192 tokens of Qwen3 took 1.25 ms instead of 1.23, with 18 1.32, for want of gathered rows; with more the same.
Ring ring_of(const Kernel& kernel, std::int64_t panels, std::int64_t k, std::int64_t most_tiles, int multiprocessors) {
  const std::int64_t items_of_tile = ceil_div(panels, std::int64_t{kernel.item_panels} * kernel.cluster);
  const std::int64_t at_once = blocks_of(kernel, multiprocessors) / kernel.cluster / items_of_tile + 1;
  const std::int64_t tiles = std::min(3 * at_once, most_tiles);
  return {.tiles = static_cast<std::int32_t>(tiles),
          .first_tiles = static_cast<std::int32_t>(std::min(at_once, tiles)),
          .elements = tiles * cuda::tiled_columns(kernel.max_rows) * cuda::tiled_k(k)};
}

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
  config.gridDim = dim3(static_cast<unsigned>(blocks_of(kernel, multiprocessors)));
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

std::int64_t gathered_elements(const Kernels& kernels, std::int64_t panels, std::int64_t k, std::int64_t rows,
                               std::int64_t experts, int multiprocessors) {
  std::int64_t elements = 0;
  for (const Kernel* kernel : kernels)
    if (kernel != nullptr && !kernel->streams)
      elements +=
          ring_of(*kernel, panels, k, cuda::most_tiles(rows, experts, kernel->max_rows), multiprocessors).elements;
  return elements;
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
    Ring ring;
    if (gemm.gather.from != nullptr) {
      ring = ring_of(*kernels[i], gemm.weights.panels, gemm.weights.k, its.tiles.most, multiprocessors);
      its.gather.ring = ring.tiles;
      its.gather.first_tiles = ring.first_tiles;
    }
    launch_one(*kernels[i], kind, its, multiprocessors, stream);
    its.beside_previous = true;
    its.claims += claims;
    if (its.gather.from != nullptr) {
      its.gather.claims += claims;
      its.gather.to += ring.elements;
    }
  }
}

}  // namespace megamoe::sm90
