#include "megamoe/buffer.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "megamoe/device.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::vector<std::byte> contents(const Buffer& buffer) {
  std::vector<std::byte> bytes(buffer.size());
  buffer.download(bytes);
  return bytes;
}

TEST(buffer, gives_back_what_was_put_in_at_its_place) {
  Buffer buffer(MemoryKind::kHost, 5);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
  buffer.upload(bytes_of({1, 2, 3, 4, 5}));
  buffer.upload(bytes_of({9, 8}), 2);
  EXPECT_EQ(contents(buffer), bytes_of({1, 2, 9, 8, 5}));
  std::vector<std::byte> two(2);
  buffer.download(two, 3);
  EXPECT_EQ(two, bytes_of({8, 5}));
}

TEST(buffer, refuses_what_reaches_past_its_end_and_changes_nothing) {
  Buffer buffer(MemoryKind::kHost, 4);
  buffer.upload(bytes_of({1, 2, 3, 4}));
  std::vector<std::byte> three(3);
  for (const std::size_t at : {std::size_t{2}, std::size_t{5}, ~std::size_t{0}}) {
    EXPECT_THROW(buffer.upload(three, at), Error);
    EXPECT_THROW(buffer.download(three, at), Error);
  }
  EXPECT_EQ(contents(buffer), bytes_of({1, 2, 3, 4}));
}

TEST(buffer, moves_its_memory) {
  Buffer first(MemoryKind::kHost, 2);
  first.upload(bytes_of({6, 7}));
  const std::byte* const place = first.data();
  Buffer second(std::move(first));
  EXPECT_EQ(second.data(), place);
  EXPECT_EQ(first.size(), 0u);  // NOLINT(bugprone-use-after-move)
  first = std::move(second);
  EXPECT_EQ(contents(first), bytes_of({6, 7}));
}

// Where there is a device, the same holds on it; where there is none, that is said.
TEST(buffer, of_a_device_holds_bytes_or_says_why_not) {
  if (const CudaDevices devices = cuda_devices(); devices.list.empty()) {
    EXPECT_THROW(Buffer(MemoryKind::kCuda, 3), Error);
    GTEST_SKIP() << devices.absent;
  }
  Buffer buffer(MemoryKind::kCuda, 3);
  buffer.upload(bytes_of({1, 2, 3}));
  buffer.upload(bytes_of({9}), 1);
  EXPECT_EQ(contents(buffer), bytes_of({1, 9, 3}));
}

}  // namespace
}  // namespace megamoe
