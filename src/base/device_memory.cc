#include "base/device_memory.h"

#include "base/cuda_check.h"

namespace megamoe {

std::byte* device_allocate(std::size_t bytes) {
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) != cudaSuccess) {
    const cudaError_t status = cudaGetLastError();
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) cuda_check(status, "device memory");
    throw Error(Code::kOutOfMemory, "device memory: asked ", bytes, " bytes, ", free, " of ", total, " are free");
  }
  return static_cast<std::byte*>(data);
}

void device_free(std::byte* data) noexcept { (void)cudaFree(data); }

void device_upload(std::byte* device, const std::byte* host, std::size_t bytes) {
  cuda_check(cudaDeviceSynchronize(), "upload");
  cuda_check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "upload");
}

void device_download(std::byte* host, const std::byte* device, std::size_t bytes) {
  cuda_check(cudaDeviceSynchronize(), "download");
  cuda_check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "download");
}

}  // namespace megamoe
