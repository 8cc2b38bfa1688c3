// The memory that every backend is tested in does show a write outside it.
#include "support/hostile_block.h"

#include <gtest/gtest.h>

namespace megamoe::test {
namespace {

TEST(hostile_block, a_byte_outside_is_seen_and_none_inside) {
  for (const std::size_t bytes : {0u, 1u, 100u, 4096u}) {
    const HostileBlock block(MemoryKind::kHost, bytes, 1, Poison::kNan);
    EXPECT_EQ(block.span().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.span().data()) % 64, 1u);
    for (std::byte& inside : block.span()) inside = std::byte{0xFF};
    EXPECT_TRUE(block.canaries_live());
    for (std::byte* outside :
         {block.span().data() - 1, block.span().data() + bytes, block.span().data() + bytes + 255}) {
      const std::byte kept = *outside;
      *outside = std::byte{0};
      EXPECT_FALSE(block.canaries_live());
      *outside = kept;
    }
  }
}

TEST(hostile_block, holds_poison_until_it_is_written) {
  const HostileBlock block(MemoryKind::kHost, 8, 4, Poison::kNan);
  EXPECT_EQ(block.contents<std::uint32_t>(), std::vector<std::uint32_t>(2, 0x7FC07FC0u));
  block.as<std::uint32_t>()[1] = 5;
  EXPECT_EQ(block.contents<std::uint32_t>(), (std::vector<std::uint32_t>{0x7FC07FC0u, 5}));
}

}  // namespace
}  // namespace megamoe::test
