// Moving bytes between layouts. Where each byte goes is a formula of layout/*.h; these functions only move.
// Each throws kInvalidArgument, before it writes, when a size does not fit. Sources and destinations must not overlap.
#pragma once

#include <cstdint>
#include <span>

#include "megamoe/layout/gate_up.h"
#include "megamoe/layout/row_layout.h"
#include "megamoe/layout/scale_layout.h"

namespace megamoe {

// ---- Scale swizzles (Swizzle = Swizzle128x4 or Swizzle8x4; layout/scale_layout.h) ----------------------------------

// linear [rows, cols] to swizzled [swizzled_bytes(rows, cols)]; the padding is written as zero.
template <class Swizzle>
void swizzle_scales(std::span<const std::uint8_t> linear, std::int64_t rows, std::int64_t cols,
                    std::span<std::uint8_t> swizzled);

// The inverse; the padding is not read.
template <class Swizzle>
void unswizzle_scales(std::span<const std::uint8_t> swizzled, std::int64_t rows, std::int64_t cols,
                      std::span<std::uint8_t> linear);

extern template void swizzle_scales<Swizzle128x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                                  std::span<std::uint8_t>);
extern template void swizzle_scales<Swizzle8x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                                std::span<std::uint8_t>);
extern template void unswizzle_scales<Swizzle128x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                                    std::span<std::uint8_t>);
extern template void unswizzle_scales<Swizzle8x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                                  std::span<std::uint8_t>);

// Activation side of a grouped GEMM. linear [row_begin[E], cols], the rows of all experts; swizzled: each expert's rows
// as a 128x4 matrix of its own, padded, concatenated: grouped_scales_begin(row_begin, E, cols) bytes.
void swizzle_grouped_scales(std::span<const std::uint8_t> linear, std::span<const std::int64_t> row_begin,
                            std::int64_t cols, std::span<std::uint8_t> swizzled);
void unswizzle_grouped_scales(std::span<const std::uint8_t> swizzled, std::span<const std::int64_t> row_begin,
                              std::int64_t cols, std::span<std::uint8_t> linear);

// Weight side of a grouped GEMM. linear [experts, rows, cols]; swizzled [experts, pad_to(rows, 128) * pad_to(cols,
// 4)].
void swizzle_stacked_scales(std::span<const std::uint8_t> linear, std::int64_t experts, std::int64_t rows,
                            std::int64_t cols, std::span<std::uint8_t> swizzled);
void unswizzle_stacked_scales(std::span<const std::uint8_t> swizzled, std::int64_t experts, std::int64_t rows,
                              std::int64_t cols, std::span<std::uint8_t> linear);

// ---- Gate and up (layout/gate_up.h)
// ----------------------------------------------------------------------------------

// stacked [outer, gate then up: 2 * inter, row_bytes] to the same shape with the middle axis interleaved.
//   rows of [E, 2I, K/2] codes:          outer = E,       inter = I, row_bytes = K/2
//   the last axis of (E, K/2, N) codes:  outer = E * K/2, inter = N/2, row_bytes = 1
void interleave_gate_up(std::span<const std::uint8_t> stacked, std::int64_t outer, std::int64_t inter,
                        std::int64_t row_bytes, GateUpLayout layout, std::span<std::uint8_t> interleaved);
void deinterleave_gate_up(std::span<const std::uint8_t> interleaved, std::int64_t outer, std::int64_t inter,
                          std::int64_t row_bytes, GateUpLayout layout, std::span<std::uint8_t> stacked);

// ---- K-major weights
// ---------------------------------------------------------------------------------------------------

// n_major [experts, k_cells, n] to k_major [experts, n, k_cells]: out[e][j][i] = in[e][i][j], one byte a cell.
//   codes  (E, K/2, N) -> [E, N, K/2], k_cells = K/2; a byte holds two K of one column, so nibbles stay as they are
//   scales (E, K/16, N) -> [E, N, K/16], k_cells = K/16
// The inverse is the same function with k_cells and n exchanged.
void k_major_from_n_major(std::span<const std::uint8_t> n_major, std::int64_t experts, std::int64_t k_cells,
                          std::int64_t n, std::span<std::uint8_t> k_major);

}  // namespace megamoe
