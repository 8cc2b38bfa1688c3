#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/tile_row.cuh"

namespace megamoe::sm90 {

std::span<const Kernel> large_tile_kernels() {
  static const Kernel all[] = {
      tile_row<Nvfp4Weights, 1, 160, 96, 16, 1, 8, 1>("tiles 128x160"),
      tile_row<Nvfp4Weights, 1, 240, 176, 16, 1, 6, 1>("tiles 128x240"),
      tile_row<Nvfp4Weights, 1, 304, 240, 16, 1, 5, 1>("tiles 128x304"),
  };
  return all;
}

}  // namespace megamoe::sm90
