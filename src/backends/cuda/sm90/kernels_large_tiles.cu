#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/tile_row.cuh"

namespace megamoe::sm90 {

std::span<const Kernel> large_tile_kernels() {
  static const Kernel all[] = {
      tile_row<Nvfp4Weights, 2, 1, 1, 6, 2, 176, 184, 192, 200, 208, 224, 240>("tiles 128x240"),
      tile_row<Nvfp4Weights, 2, 1, 1, 5, 1, 240, 248, 256, 272, 304>("tiles 128x304"),
  };
  return all;
}

}  // namespace megamoe::sm90
