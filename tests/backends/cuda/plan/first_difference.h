// Compares memory on the device, so that hundreds of runs can follow each other without a wait.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace megamoe::sm90::test {

inline constexpr int kByteBits = 40;
inline constexpr std::uint64_t kNoDifference = ~std::uint64_t{0};

// *first becomes the least of itself and base + i, over all bytes i that differ.
void find_first_difference(const std::byte* a, const std::byte* b, std::size_t bytes, std::uint64_t base,
                           std::uint64_t* first, cudaStream_t stream);

}  // namespace megamoe::sm90::test
