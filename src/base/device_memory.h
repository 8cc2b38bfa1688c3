// Memory of the current CUDA device. device_memory.cc in builds with CUDA, device_memory_absent.cc in others.
#pragma once

#include <cstddef>

namespace megamoe {

std::byte* device_allocate(std::size_t bytes);  // throws kOutOfMemory, kDevice; kUnsupported without CUDA
void device_free(std::byte* data) noexcept;
// Both wait until the device is idle and the bytes are there.
void device_upload(std::byte* device, const std::byte* host, std::size_t bytes);
void device_download(std::byte* host, const std::byte* device, std::size_t bytes);

}  // namespace megamoe
