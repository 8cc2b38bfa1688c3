// Memory where a plan computes: host memory, or a CUDA device's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace megamoe {

enum class MemoryKind : std::uint8_t {
  kHost,
  kCuda,  // of the CUDA device that was current when it was allocated
};

// A block of uninitialised memory, freed with the object. Copies are synchronous: they return when the bytes are there,
// and first wait for whatever the device still does.
class Buffer {
 public:
  Buffer() = default;
  // Throws kOutOfMemory, naming the size; kUnsupported for device memory in a build without CUDA.
  Buffer(MemoryKind kind, std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  MemoryKind kind() const noexcept { return kind_; }
  std::size_t size() const noexcept { return bytes_; }

  // Host code may look at the elements only where kind() is kHost.
  std::byte* data() const noexcept { return data_; }
  template <class T>
  std::span<T> as() const noexcept {
    return {reinterpret_cast<T*>(data_), bytes_ / sizeof(T)};
  }

  // Throw kInvalidArgument past the end.
  void upload(std::span<const std::byte> host, std::size_t at = 0);
  void download(std::span<std::byte> host, std::size_t at = 0) const;

 private:
  MemoryKind kind_ = MemoryKind::kHost;
  std::size_t bytes_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace megamoe
