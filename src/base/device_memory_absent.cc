#include "base/device_memory.h"
#include "megamoe/error.h"

namespace megamoe {

std::byte* device_allocate(std::size_t bytes) {
  throw Error(Code::kUnsupported, "device memory: asked ", bytes, " bytes, and this build has no CUDA");
}

// Nobody has device memory to pass here.
void device_free(std::byte*) noexcept {}
void device_upload(std::byte*, const std::byte*, std::size_t) {}
void device_download(std::byte*, const std::byte*, std::size_t) {}

}  // namespace megamoe
