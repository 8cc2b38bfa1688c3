// Where the Hopper backend keeps each weight, so that one 16-byte shared load gives a thread its A operands of four
// MMAs.
//
// A matrix of `features` rows and K columns is cut into panels of 128 features, a panel into steps of 64 K, a step into
// two tiles of 64 features x 64 K; features and K are padded with zeros. Tiles follow each other in that order, so any
// run of steps of a panel is one contiguous copy.
//
// A tile belongs to four warps of 16 features each. PTX's fragment of A for m16n8k16 (PTX ISA 9.7.14.5.8; wgmma's
// m64k16 is four of them, 9.7.15.5.1) gives lane 4 g + t, for the step of 16 K number s:
//   a0: row g,     k 2t, 2t+1      a2: row g,     k 2t+8, 2t+9
//   a1: row g + 8, k 2t, 2t+1      a3: row g + 8, k 2t+8, 2t+9
//
// Rows   down: rows g and g + 8 of warp w in tile h of panel p are features 128 p + 64 h + 16 w + 2 g and the next, so
// that
//        a thread stores pairs.
//        gate|up: rows 0-7 of the warp are the gates of channels 64 p + 32 h + 8 w + r, rows 8-15 the ups of the same,
//        so that both halves of a SwiGLU pair meet in one thread's accumulators.
// NVFP4  a tile is 2304 bytes: lane L of warp w has 16 bytes at 16 (32 w + L), one little-endian word for each s; then
// 8
//        bytes of scales for each w and g at 2048 + 8 (8 w + g): one word for s = 0, 1 and one for s = 2, 3.
//        A word holds its eight codes so that nine integer operations place all of them as bf16 bits e1 e0 m at 8:6 and
//        the sign at 15 (decode.cuh); kCodeBits below is the order. A word of scales holds four bytes UE5M3: of row g
//        and row g + 8 for the even s at bits 4-11 and 20-27, for the odd s the same after a rotation left by 8.
// BF16   a tile is 8192 bytes: lane L of warp w has its registers a0..a3 for s at 2048 s + 16 (32 w + L).
//
// UE5M3 holds E4M3's values without sign and without subnormals: exponent + 22 in five bits over three mantissa bits.
// With 0x70 above it, a byte is the bf16 of scale * 2^119; a code placed as above is the bf16 of value * 2^-126. Their
// product is exact, and kProductScale times too small.
#pragma once

#include <bit>
#include <cstdint>

#include "megamoe/host_device.h"
#include "megamoe/moe.h"

namespace megamoe::sm90 {

// Of this layout, in files of prepared weights: another number whenever the same weights give other bytes.
inline constexpr int kLayoutVersion = 1;

inline constexpr int kTileFeatures = 64;
inline constexpr int kTileK = 64;
inline constexpr int kPanelFeatures = 128;
inline constexpr int kPanelTiles = kPanelFeatures / kTileFeatures;
inline constexpr int kTileLanes = 128;                              // threads that share a tile
inline constexpr int kNvfp4CodeBytes = kTileFeatures * kTileK / 2;  // of a tile
inline constexpr int kNvfp4TileBytes = kNvfp4CodeBytes + kTileFeatures * kTileK / 16;
inline constexpr int kBf16TileBytes = kTileFeatures * kTileK * 2;
inline constexpr float kProductScale = 128.0f;

MEGAMOE_HD constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

MEGAMOE_HD constexpr int tile_bytes(WeightFormat format) {
  return format == WeightFormat::kNvfp4 ? kNvfp4TileBytes : kBf16TileBytes;
}

MEGAMOE_HD constexpr std::int64_t steps_of(std::int64_t k) { return ceil_div(k, kTileK); }
MEGAMOE_HD constexpr std::int64_t panels_of(std::int64_t features) { return ceil_div(features, kPanelFeatures); }
MEGAMOE_HD constexpr std::int64_t panel_bytes(WeightFormat format, std::int64_t k) {
  return steps_of(k) * kPanelTiles * tile_bytes(format);
}
MEGAMOE_HD constexpr std::int64_t matrix_bytes(WeightFormat format, std::int64_t features, std::int64_t k) {
  return panels_of(features) * panel_bytes(format, k);
}

// Bits of a word, by register and half (0: the even k): the sign, then the magnitude's e1, e0, m.
struct CodeBits {
  int sign, e1, e0, m;
};
MEGAMOE_HD constexpr CodeBits code_bits(int reg, int half) {
  // a0 = w, a1 = w << 4, a2 = rotr(w, 6), a3 = rotr(w, 2) and, for its m, w << 6. The high half is 16 bits further.
  const CodeBits low = reg == 0   ? CodeBits{15, 8, 7, 6}
                       : reg == 1 ? CodeBits{11, 4, 3, 2}
                       : reg == 2 ? CodeBits{21, 14, 13, 12}
                                  : CodeBits{17, 10, 9, 0};
  if (half == 0) return low;
  return {(low.sign + 16) % 32, (low.e1 + 16) % 32, (low.e0 + 16) % 32, (low.m + 16) % 32};
}

MEGAMOE_HD constexpr std::uint32_t place_code(unsigned code, int reg, int half) {
  const CodeBits at = code_bits(reg, half);
  return ((code >> 3) & 1u) << at.sign | ((code >> 2) & 1u) << at.e1 | ((code >> 1) & 1u) << at.e0 |
         (code & 1u) << at.m;
}
MEGAMOE_HD constexpr unsigned code_at(std::uint32_t word, int reg, int half) {
  const CodeBits at = code_bits(reg, half);
  return (word >> at.sign & 1u) << 3 | (word >> at.e1 & 1u) << 2 | (word >> at.e0 & 1u) << 1 | (word >> at.m & 1u);
}

// Of a positive finite E4M3 byte, exact.
MEGAMOE_HD constexpr unsigned ue5m3_from_e4m3(unsigned e4m3) {
  const unsigned exponent = e4m3 >> 3;
  const unsigned mantissa = e4m3 & 7u;
  if (exponent != 0) return (exponent + 15) << 3 | mantissa;         // 2^(exponent - 7)
  const unsigned shift = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;  // mantissa * 2^-9
  return (13 + shift) << 3 | (mantissa << (3 - shift) & 7u);
}
MEGAMOE_HD constexpr unsigned e4m3_from_ue5m3(unsigned code) {
  const int exponent = static_cast<int>(code >> 3) - 15;
  if (exponent > 0) return static_cast<unsigned>(exponent) << 3 | (code & 7u);
  return (8u | (code & 7u)) >> (1 - exponent);
}

// The scale of row g (row8 = 0) or g + 8 for the step s, in its word (s / 2).
MEGAMOE_HD constexpr std::uint32_t place_scale(unsigned ue5m3, int s, int row8) {
  const std::uint32_t even = ue5m3 << (row8 == 0 ? 4 : 20);
  return s % 2 == 0 ? even : (even >> 8 | even << 24);
}
MEGAMOE_HD constexpr unsigned scale_at(std::uint32_t word, int s, int row8) {
  const std::uint32_t even = s % 2 == 0 ? word : (word << 8 | word >> 24);
  return even >> (row8 == 0 ? 4 : 20) & 0xFFu;
}

}  // namespace megamoe::sm90
