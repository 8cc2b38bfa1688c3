// Canonical weights into the packed layout and back, one lane's share of a tile at a time; host and device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/sm90/packed_weight.h"
#include "megamoe/host_device.h"

namespace megamoe::sm90 {

// A canonical matrix, or gate and up as one of twice the channels: codes [rows, k / 2] (or bf16 [rows, k]), sf
// [rows, k / 16].
struct CanonicalRows {
  const std::byte* data[2] = {};  // gate and up; down has one
  const std::byte* sf[2] = {};
  std::int64_t rows = 0;  // of each
  std::int64_t k = 0;
  bool pairs = false;  // gate|up
};

// Which row of which matrix row r (0..15) of warp `warp` (0..7) of a panel is.
struct RowSource {
  int matrix;
  std::int64_t row;  // may lie past the matrix's rows: zeros
};
MEGAMOE_HD constexpr RowSource row_source(bool pairs, std::int64_t panel, int warp, int r) {
  if (!pairs) return {0, panel * kPanelFeatures + warp * 16 + r % 8 * 2 + r / 8};
  return {r / 8, panel * (kPanelFeatures / 2) + warp * 8 + r % 8};
}

// Registers a0..a3 of lane 4 g + t hold rows g and g + 8: register's row, and the k of its half.
MEGAMOE_HD constexpr int register_row(int lane, int reg) { return lane / 4 + reg % 2 * 8; }
MEGAMOE_HD constexpr int register_k(int lane, int reg, int half) { return lane % 4 * 2 + reg / 2 * 8 + half; }

MEGAMOE_HD constexpr unsigned byte_at(const std::byte* bytes, std::int64_t at) {
  return static_cast<unsigned>(bytes[at]);
}

// The word of 8 codes of a lane for one step of 16 K that begins at k; codes of a block whose scale is zero are zeros.
MEGAMOE_HD constexpr std::uint32_t pack_codes(const CanonicalRows& from, std::int64_t panel, int warp, int lane,
                                              std::int64_t k) {
  std::uint32_t word = 0;
  if (k >= from.k) return word;
  for (int reg = 0; reg < 4; ++reg) {
    const RowSource source = row_source(from.pairs, panel, warp, register_row(lane, reg));
    if (source.row >= from.rows) continue;
    if (byte_at(from.sf[source.matrix], (source.row * from.k + k) / 16) == 0) continue;
    const unsigned both = byte_at(from.data[source.matrix], (source.row * from.k + k + register_k(lane, reg, 0)) / 2);
    word |= place_code(both & 0xFu, reg, 0) | place_code(both >> 4, reg, 1);
  }
  return word;
}

// The word of scales of rows g and g + 8 for the two steps of 16 K that begin at k.
MEGAMOE_HD constexpr std::uint32_t pack_scales(const CanonicalRows& from, std::int64_t panel, int warp, int g,
                                               std::int64_t k) {
  std::uint32_t word = 0;
  for (int s = 0; s < 2; ++s)
    for (int row8 = 0; row8 < 2; ++row8) {
      const RowSource source = row_source(from.pairs, panel, warp, g + 8 * row8);
      const std::int64_t at = k + 16 * s;
      if (source.row >= from.rows || at >= from.k) continue;
      const unsigned sf = byte_at(from.sf[source.matrix], (source.row * from.k + at) / 16);
      if (sf != 0) word |= place_scale(ue5m3_from_e4m3(sf), s, row8);
    }
  return word;
}

// Register `reg` of a lane for the step of 16 K that begins at k, bf16 weights.
MEGAMOE_HD constexpr std::uint32_t pack_bf16(const CanonicalRows& from, std::int64_t panel, int warp, int lane, int reg,
                                             std::int64_t k) {
  const RowSource source = row_source(from.pairs, panel, warp, register_row(lane, reg));
  if (source.row >= from.rows || k >= from.k) return 0;
  const std::int64_t at = (source.row * from.k + k + register_k(lane, reg, 0)) * 2;
  const std::byte* bytes = from.data[source.matrix];
  return byte_at(bytes, at) | byte_at(bytes, at + 1) << 8 | byte_at(bytes, at + 2) << 16 | byte_at(bytes, at + 3) << 24;
}

// Word `word` (of four bytes) of a tile of the panel.
MEGAMOE_HD constexpr std::uint32_t pack_word(WeightFormat format, const CanonicalRows& from, std::int64_t panel,
                                             std::int64_t step, int tile, int word) {
  const std::int64_t k = step * kTileK;
  if (format == WeightFormat::kBf16) {
    const int lane = word / 4 % kTileLanes;  // of the tile
    return pack_bf16(from, panel, tile * 4 + lane / 32, lane % 32, word % 4, k + word / (4 * kTileLanes) * 16);
  }
  if (word < kNvfp4CodeBytes / 4) {
    const int lane = word / 4;
    return pack_codes(from, panel, tile * 4 + lane / 32, lane % 32, k + word % 4 * 16);
  }
  const int scales = word - kNvfp4CodeBytes / 4;
  return pack_scales(from, panel, tile * 4 + scales / 16, scales / 2 % 8, k + scales % 2 * 32);
}

// Word number `at` of a whole packed matrix.
MEGAMOE_HD constexpr std::uint32_t packed_word(WeightFormat format, const CanonicalRows& from, std::int64_t at) {
  const std::int64_t words = tile_bytes(format) / 4;
  const std::int64_t tile = at / words;
  const std::int64_t step = tile / kPanelTiles;
  const std::int64_t steps = steps_of(from.k);
  return pack_word(format, from, step / steps, step % steps, static_cast<int>(tile % kPanelTiles),
                   static_cast<int>(at % words));
}

}  // namespace megamoe::sm90
