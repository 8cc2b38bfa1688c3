// Where the cpu backend keeps each weight. Rows of a matrix are cut into groups of 32 lanes; a group's K panel is
// contiguous and is read strictly ascending, once per tile of tokens.
//
// Lanes   down: lane r of group g is row 32 g + r. gate|up: lanes 0-15 are gate rows 16 g + r, lanes 16-31 the up rows
//         of the same channels, so that both halves of a SwiGLU pair meet in one group.
// NVFP4   a panel is K/64 tiles (K padded with zeros) of 1152 bytes:
//           scale of lane r, block b (0..3)    byte 32 b + r                                    UE5M3
//           code of lane r, element k (0..63)  byte 128 + 256 (k/16) + 128 ((k%16)/8) + 4 r + k%4,
//                                              low nibble where k%8 < 4, high nibble otherwise
//         so one 32-bit word is one lane: its low nibbles are 4 consecutive K, its high nibbles the next 4. A vector of
//         words times a broadcast of 4 activations is what vpdpbusd and vpmaddubsw want. A packed code has its sign in
//         the lowest bit and its magnitude above.
// BF16    a panel is K/2 pairs of 128 bytes. Pairs are elements {0, 2}, {1, 3} of each four, which is how the halves of
//         an NVFP4 word come apart: element k of lane r is 2-byte element 64 (p/2) + 2 r + p%2, p = in_pair_order(k).
//
// UE5M3 holds E4M3's values without sign and without subnormals (exponents -9..8 need five bits), so that a vector of
// scales becomes f32 with one shift and one add. E4M3's own subnormals, shifted in place, would be f32 subnormals, and
// those cost 15 % of the kernel's rate (measured on Zen 4). A zero scale is stored as any scale with zero codes.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "megamoe/moe.h"

namespace megamoe::cpu {

// Of this layout, in files of prepared weights: another number whenever the same weights give other bytes.
inline constexpr int kLayoutVersion = 2;

inline constexpr std::int64_t kLanes = 32;
inline constexpr std::int64_t kPairLanes = kLanes / 2;  // channels of a gate|up group
inline constexpr std::int64_t kTileK = 64;
inline constexpr std::int64_t kTileScales = kLanes * kTileK / 16;              // bytes
inline constexpr std::int64_t kTileBytes = kTileScales + kLanes * kTileK / 2;  // 1152

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr std::int64_t tiles_of(std::int64_t k) { return ceil_div(k, kTileK); }

// Bytes of one group's panel.
constexpr std::int64_t panel_bytes(WeightFormat format, std::int64_t k) {
  return format == WeightFormat::kNvfp4 ? tiles_of(k) * kTileBytes : kLanes * k * 2;
}

// Byte of a scale, from the start of its panel. `k` is any element of the block.
constexpr std::int64_t scale_byte(std::int64_t lane, std::int64_t k) {
  return k / kTileK * kTileBytes + k % kTileK / 16 * kLanes + lane;
}

struct NibbleAt {
  std::int64_t byte;  // from the start of the panel
  int shift;          // 0 or 4
};

constexpr NibbleAt code_at(std::int64_t lane, std::int64_t k) {
  const std::int64_t in_tile = k % kTileK;
  return {k / kTileK * kTileBytes + kTileScales + in_tile / 16 * 256 + in_tile % 16 / 8 * 128 + lane * 4 + k % 4,
          k % 8 < 4 ? 0 : 4};
}

// E2M1 code to packed code and back to twice its value: 0, +-1, +-2, +-3, +-4, +-6, +-8, +-12.
constexpr std::uint8_t packed_code(std::uint8_t e2m1) {
  return static_cast<std::uint8_t>((e2m1 & 7) << 1 | (e2m1 >> 3 & 1));
}
constexpr int doubled_of_packed(int code) {
  constexpr int kDoubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  return (code & 1) != 0 ? -kDoubled[code >> 1] : kDoubled[code >> 1];
}

// 2 * e2m1 + 12, in 0..24, of each packed code, four times over: unsigned, as the byte products of x86 want one
// operand, and as long as the widest table look-up.
inline constexpr auto kUnsignedOfPacked = [] {
  std::array<std::uint8_t, 64> all{};
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<std::uint8_t>(12 + doubled_of_packed(static_cast<int>(i) & 15));
  return all;
}();

// Eight canonical codes, element i in bits 4 i, as a packed word: element i in the low half of byte i, element i + 4 in
// its high half.
constexpr std::uint32_t packed_word(std::uint32_t codes) {
  std::uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t code = packed_code(static_cast<std::uint8_t>(codes >> 4 * i & 15));
    word |= code << (8 * (i % 4) + 4 * (i / 4));
  }
  return word;
}

// Where element k of a row stands among its pairs.
constexpr std::int64_t in_pair_order(std::int64_t k) { return k / 4 * 4 + k % 2 * 2 + k / 2 % 2; }

// Whether a value is not zero and below 2^-90: what bf16 products with packed weights may take for zero.
inline constexpr std::int16_t kSmallestPairBf16 = (127 - 90) << 7;
constexpr bool is_tiny_bf16(std::uint16_t bits) {
  const int magnitude = bits & 0x7FFF;
  return magnitude > 0 && magnitude < kSmallestPairBf16;
}

// Element of a bf16 panel.
constexpr std::int64_t bf16_at(std::int64_t lane, std::int64_t k) {
  const std::int64_t p = in_pair_order(k);
  return p / 2 * 2 * kLanes + lane * 2 + p % 2;
}

// UE5M3: five exponent bits (bias 10) over three mantissa bits.
inline constexpr int kUe5m3Bias = 10;

// Of a positive finite E4M3 byte; exact.
constexpr std::uint8_t ue5m3_from_e4m3(std::uint8_t e4m3) {
  const int exponent = e4m3 >> 3;
  const int mantissa = e4m3 & 7;
  if (exponent != 0) return static_cast<std::uint8_t>((exponent - 7 + kUe5m3Bias) << 3 | mantissa);
  // mantissa * 2^-9 = 1.f * 2^(shift - 9)
  const int shift = std::bit_width(static_cast<unsigned>(mantissa)) - 1;
  return static_cast<std::uint8_t>((shift - 9 + kUe5m3Bias) << 3 | ((mantissa << (3 - shift)) & 7));
}

constexpr float ue5m3_to_float(std::uint8_t code) {
  return std::bit_cast<float>((static_cast<std::uint32_t>(code) << 20) +
                              (static_cast<std::uint32_t>(127 - kUe5m3Bias) << 23));
}

}  // namespace megamoe::cpu
