// Recipe rne over a row, by vectors: the bytes of quantize_nvfp4_row, for tensors of billions of weights.
#pragma once

#include <cstdint>
#include <span>

namespace megamoe {

// row [k], codes [k/2], sf [k/16]; k = row.size(), a multiple of 16; global_scale > 0.
void quantize_rne_row(std::span<const float> row, float global_scale, std::uint8_t* codes, std::uint8_t* sf) noexcept;

}  // namespace megamoe
