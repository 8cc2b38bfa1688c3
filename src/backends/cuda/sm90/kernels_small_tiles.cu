#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/tile_row.cuh"

namespace megamoe::sm90 {

std::span<const Kernel> small_tile_kernels() {
  static const Kernel all[] = {
      tile_row<Nvfp4Weights, 1, 48, 16, 16, 10, 2>("tiles 128x48"),
      tile_row<Nvfp4Weights, 1, 64, 16, 16, 8, 2>("tiles 128x64"),
      tile_row<Nvfp4Weights, 2, 96, 64, 16, 10, 1>("tiles 256x96"),
      tile_row<Nvfp4Weights, 2, 128, 112, 16, 8, 1>("tiles 256x128"),
      tile_row<Bf16Weights, 1, 128, 32, 32, 6, 1>("tiles 128x128, bf16"),
  };
  return all;
}

}  // namespace megamoe::sm90
