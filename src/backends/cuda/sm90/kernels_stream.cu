#include <algorithm>

#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/stream_gemm.cuh"

namespace megamoe::sm90 {
namespace {

// Blocks an SM that are launched of each GEMM, of those that would fit; and how far they look ahead (kernels.h).
struct Grid {
  int gate_up, down, ahead = 0, next_ahead = 0;
};

template <class Weights, int Rows, int Tiles, int Warps, int Stages, int Steps, int BlocksPerSm>
Kernel row(std::string_view name, Grid grid = {BlocksPerSm, BlocksPerSm}, bool trial = false) {
  using Config = StreamConfig<Weights::kFormat, Rows, Tiles, Warps, Stages, Steps, BlocksPerSm>;
  constexpr int kShared = sizeof(StreamShared<Config>);
  static_assert((kShared + 1024) * BlocksPerSm <= 228 * 1024, "an H100's shared memory, 1 KiB of each block is taken");
  Kernel kernel{.name = name,
                .weights = Weights::kFormat,
                .streams = true,
                .max_rows = Rows,
                .row_step = std::min(Rows, 8),
                .stage_k = Steps * kTileK,
                .item_features = kPanelFeatures / Config::kStrips,
                .blocks_per_sm = grid.gate_up,
                .down_blocks_per_sm = grid.down,
                .shared_bytes = kShared,
                .function = {reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kGateUp, Weights, Config>),
                             reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kDown, Weights, Config>)},
                .threads = Config::kThreads + 32,
                .down_ahead = grid.ahead,
                .next_ahead = grid.next_ahead,
                .trial = trial};
  if constexpr (Config::kBlocks == 1 && Weights::kFormat == WeightFormat::kNvfp4) {
    using Quantizes = Quantizing<Config>;
    static_assert(sizeof(StreamShared<Quantizes>) - kShared <= 1024);
    kernel.shared_bytes = sizeof(StreamShared<Quantizes>);
    kernel.quantizing[0] = reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kGateUp, Weights, Quantizes>);
    kernel.quantizing[1] = reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kDown, Weights, Quantizes>);
  }
  return kernel;
}

}  // namespace

std::span<const Kernel> stream_kernels() {
  // 88 KiB in flight an SM is the least that keeps memory busy; stages of 256 K are 10-20 % faster than of 128.
  static const Kernel all[] = {
      row<Nvfp4Weights, 2, 1, 8, 5, 8, 2>("stream 2", {2, 2}, true),
      row<Nvfp4Weights, 2, 1, 8, 5, 8, 2>("stream 2, half, then all", {1, 2}, true),
      row<Nvfp4Weights, 2, 1, 8, 5, 8, 2>("stream 2, ahead", {2, 2, 8}, true),
      row<Nvfp4Weights, 2, 1, 8, 7, 4, 3>("stream 2, three", {2, 3}, true),
      row<Nvfp4Weights, 2, 1, 8, 7, 4, 3>("stream 2, three, full", {3, 3}, true),
      row<Nvfp4Weights, 2, 1, 16, 5, 8, 2>("stream 2, wide", {1, 1}, true),
      row<Nvfp4Weights, 2, 1, 16, 10, 8, 1>("stream 2, whole", {1, 1}, true),
      row<Nvfp4Weights, 2, 1, 16, 10, 8, 1>("stream 2, whole, ahead", {1, 1, 0, 10}, true),
      // Half of each SM: the second GEMM's blocks find the other half free, and ask for their first weights while the
      // first GEMM still reads its last.
      row<Nvfp4Weights, 8, 1, 8, 4, 8, 2>("stream 8, half", {1, 1}),
      row<Nvfp4Weights, 8, 1, 8, 4, 8, 2>("stream 8"),
      row<Nvfp4Weights, 8, 1, 8, 4, 8, 2>("stream 8, half, then all", {1, 2}, true),
      row<Nvfp4Weights, 8, 1, 8, 4, 8, 2>("stream 8, ahead", {2, 2, 4}, true),
      row<Nvfp4Weights, 8, 1, 8, 5, 4, 3>("stream 8, three", {2, 3}, true),
      row<Nvfp4Weights, 8, 1, 8, 5, 4, 3>("stream 8, three, full", {3, 3}, true),
      row<Nvfp4Weights, 8, 1, 16, 4, 8, 2>("stream 8, wide", {1, 1}, true),
      row<Nvfp4Weights, 8, 1, 16, 7, 8, 1>("stream 8, whole", {1, 1}, true),
      row<Nvfp4Weights, 8, 1, 16, 7, 8, 1>("stream 8, whole, ahead", {1, 1, 0, 7}, true),
      row<Nvfp4Weights, 8, 1, 8, 4, 8, 2>("stream 8, next", {2, 2, 0, 4}, true),
      row<Nvfp4Weights, 8, 2, 8, 4, 4, 2>("stream 8, 128", {2, 2}, true),
      row<Nvfp4Weights, 16, 2, 8, 8, 4, 1>("stream 16"),
      row<Nvfp4Weights, 32, 2, 8, 6, 4, 1>("stream 32"),
      row<Bf16Weights, 32, 2, 8, 5, 2, 1>("stream 32, bf16"),
  };
  return all;
}

}  // namespace megamoe::sm90
