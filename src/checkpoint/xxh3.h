// XXH3, 128 bits, by xxHash: whether bytes are still those they were. It finds what disks, memory and mistakes change,
// at the rate of memory; SHA-256 took more time than quantising, and an attacker who can write to the output has no
// need to forge anything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/xxh3_functions.h"

namespace megamoe {

using Xxh3Digest = std::array<std::uint8_t, 16>;

class Xxh3 {
 public:
  Xxh3();
  void update(std::span<const std::byte> bytes);
  Xxh3Digest finish() const;

 private:
  const Xxh3Functions* functions_;
  alignas(kXxh3StateAlign) std::byte state_[kXxh3StateBytes];
};

Xxh3Digest xxh3(std::span<const std::byte> bytes);

}  // namespace megamoe
