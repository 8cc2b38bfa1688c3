// What a CUDA device can do at best, measured in the same process as the layer: the floor that its time stands on.
// In builds without CUDA these throw kUnsupported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace megamoe::bench {

struct DeviceFloors {
  std::string device;           // name, multiprocessors, memory
  std::size_t cache_bytes = 0;  // the L2 cache
  double read_bytes_per_s = 0;  // reading only
  std::int64_t read_bytes = 0;  // read by each sample of it
  double copy_bytes_per_s = 0;  // bytes read plus bytes written
  double bf16_flops_per_s = 0;  // 0: not known
  std::string bf16_source;      // who multiplied, or why nobody did
};

// All figures are medians of 9, after 0.3 s of the same work without a pause, so that the clocks are those of sustained
// work. `bf16_tflops` above 0 is taken for the matrix rate instead of measuring it.
DeviceFloors measure_device_floors(double bf16_tflops = 0.0);

// BF16 matrices of 8192 x 8192, normal values, f32 accumulation, by the cuBLASLt that the dynamic linker finds: neither
// building nor starting this program needs it.
struct MatmulRate {
  double flops_per_s = 0;  // 0: not measured
  std::string source;      // the library and its version, or the reason
};
MatmulRate measure_bf16_matmul();

}  // namespace megamoe::bench
