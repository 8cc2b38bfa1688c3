// Memory that shows mistakes: it begins at an odd place, is full of poison, and lies between canaries. On the host or
// on a device, so that every backend is tested in the same surroundings.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "megamoe/buffer.h"

namespace megamoe::test {

enum class Poison : std::uint32_t {
  k7F = 0x7F7F7F7Fu,   // NaN as E4M3, 3.4e38 as fp32, and large positive integers
  kFF = 0xFFFFFFFFu,   // NaN as E4M3, BF16 and FP32, and -1
  kNan = 0x7FC07FC0u,  // quiet NaN as BF16 and as FP32
};

class HostileBlock {
 public:
  // `bytes` bytes that begin `skew` past a 64-byte line.
  HostileBlock(MemoryKind kind, std::size_t bytes, std::size_t skew, Poison poison);

  // Where the poison lies; on a device, a device address.
  std::span<std::byte> span() const { return block_.as<std::byte>().subspan(begin_, bytes_); }
  template <class T>
  std::span<T> as() const {
    return {reinterpret_cast<T*>(block_.data() + begin_), bytes_ / sizeof(T)};
  }

  // What lies there now. Waits for the device.
  template <class T>
  std::vector<T> contents() const {
    std::vector<T> values(bytes_ / sizeof(T));
    block_.download(std::as_writable_bytes(std::span(values)), begin_);
    return values;
  }

  bool canaries_live() const;  // waits for the device

 private:
  bool is_canary(std::size_t from, std::size_t to) const;

  std::size_t bytes_;
  std::size_t begin_;
  Buffer block_;
};

}  // namespace megamoe::test
