#include "megamoe/buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/device_memory.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

void check_range(const char* what, std::size_t at, std::size_t bytes, std::size_t size) {
  if (at > size || bytes > size - at)
    throw Error(Code::kInvalidArgument, what, ": asked bytes ", at, " to ", at + bytes, ", accepted: up to ", size);
}

// A workspace of many tokens is walked through in every phase: large blocks lie in huge pages where the system has
// them.
std::byte* host_allocate(std::size_t bytes) {
  constexpr std::size_t kCacheLine = 64;
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const std::size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kCacheLine;
  const std::size_t padded = bytes > SIZE_MAX - alignment ? bytes : (bytes + alignment - 1) / alignment * alignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, padded));
#if defined(MADV_HUGEPAGE)
  if (data != nullptr && alignment == kHugePage) madvise(data, padded, MADV_HUGEPAGE);  // advice: may be refused
#endif
  if (data == nullptr) throw Error(Code::kOutOfMemory, "memory: asked ", bytes, " bytes, the system has not as many");
  return data;
}

}  // namespace

Buffer::Buffer(MemoryKind kind, std::size_t bytes) : kind_(kind), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = kind == MemoryKind::kHost ? host_allocate(bytes) : device_allocate(bytes);
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (kind_ == MemoryKind::kHost)
    std::free(data_);
  else
    device_free(data_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : kind_(other.kind_), bytes_(std::exchange(other.bytes_, 0)), data_(std::exchange(other.data_, nullptr)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(bytes_, other.bytes_);
  std::swap(data_, other.data_);
  return *this;
}

void Buffer::upload(std::span<const std::byte> host, std::size_t at) {
  check_range("upload", at, host.size(), bytes_);
  if (host.empty()) return;
  if (kind_ == MemoryKind::kHost)
    std::memcpy(data_ + at, host.data(), host.size());
  else
    device_upload(data_ + at, host.data(), host.size());
}

void Buffer::download(std::span<std::byte> host, std::size_t at) const {
  check_range("download", at, host.size(), bytes_);
  if (host.empty()) return;
  if (kind_ == MemoryKind::kHost)
    std::memcpy(host.data(), data_ + at, host.size());
  else
    device_download(host.data(), data_ + at, host.size());
}

}  // namespace megamoe
