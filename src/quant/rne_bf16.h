// BF16 weights to NVFP4 by recipe rne, in vectors over the bytes as a checkpoint stores them: the bytes of
// quantize_nvfp4_row, and on the way what a report says about them. Two passes, since a global scale wants all weights
// first; the first one finds the maximum of every block. `data` has any alignment.
#pragma once

#include <cstdint>

#include "megamoe/quant/error_stats.h"

namespace megamoe {

// Largest magnitude of `count` BF16 numbers as bits of BF16. A NaN counts as larger than Inf, which is 0x7F80; with
// `ignore_nan` as nothing.
std::uint16_t bf16_amax_bits(const void* data, std::int64_t count, bool ignore_nan) noexcept;

// block_amax [blocks] is the largest magnitude of each of the data's [16 blocks], as bf16_amax_bits has it with NaN.
// Returns the largest of them.
std::uint16_t scan_bf16(const void* data, std::int64_t blocks, std::uint16_t* block_amax) noexcept;

// Whether f32 sums of squares serve weights of this global scale: they are within 2^-16 of sums in double then.
bool has_bf16_squares(float global_scale) noexcept;

// data [16 blocks], block_amax [blocks] of scan_bf16, codes [8 blocks], sf [blocks], global_scale > 0. Rows follow one
// another without a gap, so many rows are one call. Where `error` is given, the numbers and their differences from what
// the codes say are added to it, in vectors; has_bf16_squares is asked before.
void quantize_rne_bf16(const void* data, std::int64_t blocks, const std::uint16_t* block_amax, float global_scale,
                       std::uint8_t* codes, std::uint8_t* sf, ErrorStats* error);

}  // namespace megamoe
