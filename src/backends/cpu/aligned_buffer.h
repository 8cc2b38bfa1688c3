// Memory for packed weights: aligned for vectors, and in huge pages where the system offers them.
#pragma once

#include <cstddef>
#include <span>

namespace megamoe::cpu {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes);  // zeroed; throws kOutOfMemory
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;

  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace megamoe::cpu
