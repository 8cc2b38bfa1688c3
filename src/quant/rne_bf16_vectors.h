// The vectors behind rne_bf16.h. Each function does the beginning of its work and says how much that is: none at all
// where the build or the machine has no vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "megamoe/quant/error_stats.h"

namespace megamoe {

// Looks at the first numbers, and raises *amax where one is larger. Returns how many it has looked at.
std::int64_t bf16_amax_by_vectors(const std::byte* data, std::int64_t count, bool ignore_nan,
                                  std::uint16_t* amax) noexcept;

// Looks at the first blocks, and raises *amax where one is larger. Returns how many it has looked at.
std::int64_t bf16_scan_by_vectors(const std::byte* data, std::int64_t blocks, std::uint16_t* block_amax,
                                  std::uint16_t* amax) noexcept;

// Quantises the first blocks, sixteen at a time, up to sixteen of which one needs nvfp4_block_rne itself
// (nvfp4_has_fast_form). Returns how many blocks it has quantised.
std::int64_t rne_bf16_by_vectors(const std::byte* data, std::int64_t blocks, const std::uint16_t* block_amax,
                                 float global_scale, std::uint8_t* codes, std::uint8_t* sf, ErrorStats* error) noexcept;

}  // namespace megamoe
