// Arrays on the device for tests of single kernels: filled with poison, so that what a kernel leaves alone shows.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/common/device.h"
#include "megamoe/buffer.h"
#include "megamoe/formats/float_bits.h"

namespace megamoe::cuda::test {

inline constexpr std::uint8_t kPoisonByte = 0xCD;

template <class T>
T poison() {
  T value;
  std::memset(static_cast<void*>(&value), kPoisonByte, sizeof value);
  return value;
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : DeviceArray(std::vector<T>(size, poison<T>())) {}
  explicit DeviceArray(const std::vector<T>& values)
      : size_(values.size()), buffer_(MemoryKind::kCuda, std::max<std::size_t>(values.size() * sizeof(T), 16)) {
    buffer_.upload(std::as_bytes(std::span(values)));
  }
  T* data() const { return reinterpret_cast<T*>(buffer_.data()); }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    buffer_.download(std::as_writable_bytes(std::span(values)));
    return values;
  }

 private:
  std::size_t size_;
  Buffer buffer_;
};

// Tests of kernels are skipped, with the reason, where no device is.
class OnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    if (current_device(reason).index < 0) GTEST_SKIP() << reason;
  }
};

// The bits are equal, or both are NaN: which NaN an operation makes is the processor's business.
inline bool same_number(float a, float b) {
  return float_bits(a) == float_bits(b) || (float_is_nan(a) && float_is_nan(b));
}

}  // namespace megamoe::cuda::test
