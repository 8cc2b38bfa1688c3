#include "support/hostile_block.h"

#include <algorithm>

namespace megamoe::test {
namespace {

constexpr std::size_t kGuard = 256;  // a multiple of 64: a Buffer begins on such a line
constexpr std::byte kCanary{0xA5};

}  // namespace

HostileBlock::HostileBlock(MemoryKind kind, std::size_t bytes, std::size_t skew, Poison poison)
    : bytes_(bytes), begin_(kGuard + skew), block_(kind, begin_ + bytes + kGuard) {
  std::vector<std::byte> image(block_.size(), kCanary);
  const auto word = static_cast<std::uint32_t>(poison);
  for (std::size_t i = 0; i < bytes; ++i) image[begin_ + i] = static_cast<std::byte>(word >> (8 * (i % 4)));
  block_.upload(image);
}

bool HostileBlock::canaries_live() const { return is_canary(0, begin_) && is_canary(begin_ + bytes_, block_.size()); }

bool HostileBlock::is_canary(std::size_t from, std::size_t to) const {
  std::vector<std::byte> guard(to - from);
  block_.download(guard, from);
  return std::all_of(guard.begin(), guard.end(), [](std::byte b) { return b == kCanary; });
}

}  // namespace megamoe::test
