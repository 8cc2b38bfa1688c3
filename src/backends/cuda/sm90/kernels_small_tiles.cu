#include "backends/cuda/sm90/instances.h"
#include "backends/cuda/sm90/tile_row.cuh"

namespace megamoe::sm90 {

std::span<const Kernel> small_tile_kernels() {
  static const Kernel all[] = {
      tile_row<Nvfp4Weights, 1, 48, 16, 16, 2, 5, 2>("tiles 128x48"),
      tile_row<Nvfp4Weights, 1, 64, 16, 16, 2, 4, 2>("tiles 128x64"),
      tile_row<Nvfp4Weights, 1, 112, 48, 16, 1, 11, 1>("tiles 128x112"),
      tile_row<Bf16Weights, 1, 128, 32, 32, 1, 6, 1>("tiles 128x128, bf16"),
  };
  return all;
}

}  // namespace megamoe::sm90
