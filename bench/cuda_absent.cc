// In place of the cuda_*.cc in builds without CUDA.
#include "bench/cuda_floors.h"
#include "bench/cuda_layer_timer.h"
#include "megamoe/error.h"

namespace megamoe::bench {

DeviceFloors measure_device_floors(double) {
  throw Error(Code::kUnsupported, "floors of a device: this build has no CUDA");
}

MatmulRate measure_bf16_matmul() { throw Error(Code::kUnsupported, "matrix rate of a device: this build has no CUDA"); }

DeviceMeasurement measure_layer_on_device(const Plan&, std::span<const Tokens>, const DeviceTimerOptions&) {
  throw Error(Code::kUnsupported, "timing on a device: this build has no CUDA");
}

}  // namespace megamoe::bench
