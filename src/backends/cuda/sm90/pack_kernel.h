// Packs one canonical matrix on the device.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/sm90/pack.h"

namespace megamoe::sm90 {

// `from` and `packed` [matrix_bytes(format, features, k)] are device memory.
void pack_on_device(WeightFormat format, const CanonicalRows& from, std::byte* packed, cudaStream_t stream);

}  // namespace megamoe::sm90
