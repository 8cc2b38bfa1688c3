// In place of backends/cuda/common/device.cc, in builds without CUDA.
#include "megamoe/device.h"

namespace megamoe {

CudaDevices cuda_devices() { return {.list = {}, .absent = MEGAMOE_CUDA_ABSENT}; }

}  // namespace megamoe
