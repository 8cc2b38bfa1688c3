#include "backends/cuda/common/device.h"

#include <cuda_runtime_api.h>

namespace megamoe::cuda {
namespace {

bool failed(cudaError_t status, std::string& reason) {
  if (status == cudaSuccess) return false;
  (void)cudaGetLastError();
  if (status == cudaErrorInsufficientDriver)
    reason = "no CUDA driver for this build's runtime was found";
  else if (status == cudaErrorNoDevice)
    reason = "no CUDA device was found";
  else
    reason = std::string("the CUDA runtime answered ") + cudaGetErrorName(status);
  return true;
}

}  // namespace

Device current_device(std::string& reason) {
  Device device;
  int count = 0;
  if (failed(cudaGetDeviceCount(&count), reason)) return device;
  int index = 0;
  cudaDeviceProp properties{};
  if (failed(cudaGetDevice(&index), reason)) return device;
  if (failed(cudaGetDeviceProperties(&properties, index), reason)) return device;
  device.index = index;
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.memory_bytes = properties.totalGlobalMem;
  return device;
}

}  // namespace megamoe::cuda
