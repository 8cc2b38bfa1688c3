// A row of the table of kernels for one configuration of the tile loop.
#pragma once

#include "backends/cuda/sm90/kernels.h"
#include "backends/cuda/sm90/tile_gemm.cuh"

namespace megamoe::sm90 {

template <class Weights, int Panels, int Columns, int MinColumns, int ColumnStep, int Steps, int Stages,
          int BlocksPerSm>
Kernel tile_row(std::string_view name) {
  using Config = TileConfig<Weights::kFormat, Panels, Columns, MinColumns, ColumnStep, Steps, Stages, BlocksPerSm>;
  constexpr int kShared = sizeof(TileShared<Config>);
  static_assert((kShared + 1024) * BlocksPerSm <= 228 * 1024, "an H100's shared memory, 1 KiB of each block is taken");
  return {.name = name,
          .weights = Weights::kFormat,
          .streams = false,
          .max_rows = Columns,
          .row_step = kTileColumns,
          .stage_k = Steps * kTileK,
          .blocks_per_sm = BlocksPerSm,
          .shared_bytes = kShared,
          .function = {reinterpret_cast<const void*>(&tile_gemm_kernel<GemmKind::kGateUp, Weights, Config>),
                       reinterpret_cast<const void*>(&tile_gemm_kernel<GemmKind::kDown, Weights, Config>)},
          .threads = Config::kThreads + kCopyThreads};
}

}  // namespace megamoe::sm90
