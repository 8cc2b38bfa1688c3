#include "backends/cuda/common/device.h"

#include <cuda_runtime_api.h>

#include <utility>

namespace megamoe {
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

// False, with the reason, where the runtime does not tell.
bool describe(int index, DeviceInfo& info, std::string& reason) {
  cudaDeviceProp properties{};
  if (failed(cudaGetDeviceProperties(&properties, index), reason)) return false;
  info = {.name = properties.name,
          .major = properties.major,
          .minor = properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory_bytes = properties.totalGlobalMem};
  return true;
}

}  // namespace

CudaDevices cuda_devices() {
  CudaDevices devices;
  int count = 0;
  if (failed(cudaGetDeviceCount(&count), devices.absent)) return devices;
  for (int index = 0; index < count; ++index) {
    DeviceInfo info;
    if (!describe(index, info, devices.absent)) return {.list = {}, .absent = devices.absent};
    devices.list.push_back(std::move(info));
  }
  return devices;
}

namespace cuda {

Device current_device(std::string& reason) {
  Device device;
  int count = 0;
  int index = 0;
  if (failed(cudaGetDeviceCount(&count), reason) || failed(cudaGetDevice(&index), reason)) return device;
  if (describe(index, device, reason)) device.index = index;
  return device;
}

}  // namespace cuda
}  // namespace megamoe
