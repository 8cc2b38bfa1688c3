// BF16 weights to NVFP4 by recipe rne, in vectors over the bytes as a checkpoint stores them: the bytes of
// quantize_nvfp4_row, and on the way what a report says about them.
#pragma once

#include <cstdint>

#include "megamoe/quant/error_stats.h"

namespace megamoe {

// Largest magnitude of `count` BF16 numbers as bits of BF16. A NaN counts as larger than Inf, which is 0x7F80; with
// `ignore_nan` as nothing. `data` has any alignment, here and below.
std::uint16_t bf16_amax_bits(const void* data, std::int64_t count, bool ignore_nan) noexcept;

// data [16 blocks], codes [8 blocks], sf [blocks], global_scale > 0. Rows follow one another without a gap, so many rows
// are one call. Where `error` is given, the difference between the numbers and what the codes say is added to it; its
// sums of squares are f32 over 64 blocks, so they are within 2^-16 of sums in double.
void quantize_rne_bf16(const void* data, std::int64_t blocks, float global_scale, std::uint8_t* codes, std::uint8_t* sf,
                       ErrorStats* error);

}  // namespace megamoe
