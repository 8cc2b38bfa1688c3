// The packed layout read back: what pack.h does, undone element by element; host and device. For tests and tools.
//
// Two things do not come back as they were: codes of a block whose scale is zero are zeros (their values are the same),
// and what lies past the matrix's rows or K is not there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/sm90/pack.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "megamoe/host_device.h"

namespace megamoe::sm90 {

// A packed matrix, or gate|up: `rows` of each of its one or two canonical matrices, k columns.
struct PackedRows {
  const std::byte* packed = nullptr;
  std::int64_t rows = 0;
  std::int64_t k = 0;
  bool pairs = false;  // gate|up
};

// Row `row` of a matrix (0: gate, or the only one; 1: up) as a row of a panel: row_source's inverse.
struct PackedRow {
  std::int64_t panel;
  int warp;  // 0..7
  int r;     // 0..15
};
MEGAMOE_HD constexpr PackedRow packed_row(bool pairs, int matrix, std::int64_t row) {
  const std::int64_t of_panel = pairs ? kPanelFeatures / 2 : kPanelFeatures;
  const int of_warp = pairs ? 8 : 16;
  const int in_panel = static_cast<int>(row % of_panel);
  const int in_warp = in_panel % of_warp;
  return {row / of_panel, in_panel / of_warp, pairs ? in_warp + 8 * matrix : in_warp / 2 + in_warp % 2 * 8};
}

// Four bytes of the tile that holds panel row `at` and column k.
MEGAMOE_HD constexpr std::uint32_t word_of_tile(WeightFormat format, const PackedRows& from, const PackedRow& at,
                                                std::int64_t k, int word) {
  const std::int64_t tile = (at.panel * steps_of(from.k) + k / kTileK) * kPanelTiles + at.warp / 4;
  const std::byte* bytes = from.packed + tile * tile_bytes(format) + std::int64_t{word} * 4;
  return byte_at(bytes, 0) | byte_at(bytes, 1) << 8 | byte_at(bytes, 2) << 16 | byte_at(bytes, 3) << 24;
}

// Which register, and half of it, of which lane holds row r of a warp and column `column` (0..15) of a step:
// register_row's and register_k's inverse.
struct FragmentPlace {
  int lane;
  int reg;
  int half;
};
MEGAMOE_HD constexpr FragmentPlace fragment_place(int r, int column) {
  return {r % 8 * 4 + column % 8 / 2, r / 8 + column / 8 * 2, column % 2};
}

MEGAMOE_HD constexpr unsigned unpack_code(const PackedRows& from, int matrix, std::int64_t row, std::int64_t k) {
  const PackedRow at = packed_row(from.pairs, matrix, row);
  const FragmentPlace place = fragment_place(at.r, static_cast<int>(k % 16));
  const int word = (at.warp % 4 * 32 + place.lane) * 4 + static_cast<int>(k % kTileK / 16);
  return code_at(word_of_tile(WeightFormat::kNvfp4, from, at, k, word), place.reg, place.half);
}

// The E4M3 byte of the block that holds column k.
MEGAMOE_HD constexpr unsigned unpack_scale(const PackedRows& from, int matrix, std::int64_t row, std::int64_t k) {
  const PackedRow at = packed_row(from.pairs, matrix, row);
  const int step = static_cast<int>(k % kTileK / 16);
  const int word = kNvfp4CodeBytes / 4 + (at.warp % 4 * 8 + at.r % 8) * 2 + step / 2;
  const unsigned ue5m3 = scale_at(word_of_tile(WeightFormat::kNvfp4, from, at, k, word), step, at.r / 8);
  return ue5m3 == 0 ? 0 : e4m3_from_ue5m3(ue5m3);
}

// The bf16 bits of an element.
MEGAMOE_HD constexpr unsigned unpack_bf16(const PackedRows& from, int matrix, std::int64_t row, std::int64_t k) {
  const PackedRow at = packed_row(from.pairs, matrix, row);
  const FragmentPlace place = fragment_place(at.r, static_cast<int>(k % 16));
  const int lane = at.warp % 4 * 32 + place.lane;
  const int word = (static_cast<int>(k % kTileK / 16) * kTileLanes + lane) * 4 + place.reg;
  return word_of_tile(WeightFormat::kBf16, from, at, k, word) >> (16 * place.half) & 0xFFFFu;
}

}  // namespace megamoe::sm90
