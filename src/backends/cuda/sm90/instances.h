// Internal to the kernels*.cu files: each compiles some of the instances and hands out their rows of the table.
#pragma once

#include <span>

#include "backends/cuda/sm90/kernels.h"

namespace megamoe::sm90 {

std::span<const Kernel> stream_kernels();
std::span<const Kernel> small_tile_kernels();
std::span<const Kernel> large_tile_kernels();

}  // namespace megamoe::sm90
