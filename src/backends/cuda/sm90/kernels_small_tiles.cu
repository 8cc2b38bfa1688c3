#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/tile_row.cuh"

namespace megamoe::sm90 {

std::span<const Kernel> small_tile_kernels() {
  static const Kernel all[] = {
      tile_row<Nvfp4Weights, 1, 2, 2, 5, 1, 16, 24, 32, 40, 48>("tiles 256x48"),
      tile_row<Nvfp4Weights, 1, 2, 1, 8, 2, 32, 48, 56, 64, 72, 80, 88, 96>("tiles 256x96"),
      tile_row<Nvfp4Weights, 1, 2, 1, 7, 2, 32, 64, 80, 88, 96, 104, 112, 128>("tiles 256x128"),
      tile_row<Nvfp4Weights, 1, 2, 1, 7, 2, 112, 128, 144, 160>("tiles 256x160"),
      tile_row<Bf16Weights, 1, 1, 1, 6, 1, 32, 64, 96, 128>("tiles 128x128, bf16"),
  };
  return all;
}

}  // namespace megamoe::sm90
