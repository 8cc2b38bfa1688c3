// A row of the table of kernels for one configuration of the tile loop.
#pragma once

#include "backends/cuda/sm90/kernels.h"
#include "backends/cuda/sm90/tile_gemm.cuh"

namespace megamoe::sm90 {

template <class Weights, int Cluster, int Panels, int Steps, int Stages, int Lead, int... Columns>
Kernel tile_row(std::string_view name) {
  using Config = TileConfig<Weights::kFormat, Cluster, Panels, Steps, Stages, Lead, Columns...>;
  constexpr int kShared = sizeof(TileShared<Config>);
  static_assert(kShared + 1024 <= 228 * 1024, "an H100's shared memory, 1 KiB of each block is taken");
  return {.name = name,
          .weights = Weights::kFormat,
          .streams = false,
          .max_rows = Config::kColumns,
          .row_step = Config::kRowStep,
          .stage_k = Steps * kTileK,
          .item_panels = Panels,
          .blocks_per_sm = 1,
          .cluster = Cluster,
          .shared_bytes = kShared,
          .function = {reinterpret_cast<const void*>(&tile_gemm_kernel<GemmKind::kGateUp, Weights, Config>),
                       reinterpret_cast<const void*>(&tile_gemm_kernel<GemmKind::kDown, Weights, Config>)},
          .threads = Config::kThreads};
}

}  // namespace megamoe::sm90
