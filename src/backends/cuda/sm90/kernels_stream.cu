#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/stream_gemm.cuh"

namespace megamoe::sm90 {
namespace {

template <class Weights, int Rows, int Tiles, int Stages, int Steps, int BlocksPerSm>
Kernel row(std::string_view name) {
  using Config = StreamConfig<Weights::kFormat, Rows, Tiles, Stages, Steps, BlocksPerSm>;
  constexpr int kShared = sizeof(StreamShared<Config>);
  static_assert((kShared + 1024) * BlocksPerSm <= 228 * 1024, "an H100's shared memory, 1 KiB of each block is taken");
  return {.name = name,
          .weights = Weights::kFormat,
          .streams = true,
          .max_rows = Rows,
          .row_step = 8,
          .stage_k = Steps * kTileK,
          .item_features = kPanelFeatures / Config::kStrips,
          .blocks_per_sm = BlocksPerSm,
          .shared_bytes = kShared,
          .function = {reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kGateUp, Weights, Config>),
                       reinterpret_cast<const void*>(&stream_gemm_kernel<GemmKind::kDown, Weights, Config>)},
          .threads = Config::kThreads + 32};
}

}  // namespace

std::span<const Kernel> stream_kernels() {
  // 88 KiB in flight an SM is the least that keeps memory busy; stages of 256 K are 10-20 % faster than of 128.
  static const Kernel all[] = {
      row<Nvfp4Weights, 8, 1, 5, 4, 3>("stream 8, three"), row<Nvfp4Weights, 8, 1, 4, 8, 2>("stream 8"),
      row<Nvfp4Weights, 16, 2, 4, 4, 2>("stream 16"),      row<Nvfp4Weights, 32, 2, 3, 4, 2>("stream 32"),
      row<Bf16Weights, 32, 2, 5, 2, 1>("stream 32, bf16"),
  };
  return all;
}

}  // namespace megamoe::sm90
