// Digests as text.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace megamoe {

inline std::string to_hex(std::span<const std::uint8_t> digest) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest) text += {kHex[byte >> 4], kHex[byte & 15]};
  return text;
}

}  // namespace megamoe
