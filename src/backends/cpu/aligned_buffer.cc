#include "backends/cpu/aligned_buffer.h"

#include <sys/mman.h>

#include <utility>

#include "megamoe/error.h"

namespace megamoe::cpu {

// Anonymous pages come zeroed, and only those that are touched cost memory.
AlignedBuffer::AlignedBuffer(std::size_t bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(Code::kOutOfMemory, "packed weights: asked ", bytes, " bytes, the system refused");
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice: where it is refused, pages are small
  bytes_ = {static_cast<std::byte*>(memory), bytes};
}

AlignedBuffer::~AlignedBuffer() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace megamoe::cpu
