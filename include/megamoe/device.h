// The CUDA devices that this process sees.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace megamoe {

struct DeviceInfo {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int major = 0;     // compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
};

struct CudaDevices {
  std::vector<DeviceInfo> list;  // by the runtime's index
  std::string absent;            // why the list is empty: "no CUDA device was found"
};

// Never throws for a machine without devices: that is the common case.
CudaDevices cuda_devices();

}  // namespace megamoe
