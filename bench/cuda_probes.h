// Kernels that measuring needs and no layer has.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace megamoe::bench {

// All arrays lie in device memory.

// Random bytes: memory full of zeros takes less power to read than weights do. A multiple of 8 bytes.
void fill_random(std::span<std::byte> to, std::uint64_t seed, cudaStream_t stream);

// BF16 bits of values close to normal, deviation 1.
void fill_normal_bf16(std::span<std::uint16_t> to, std::uint64_t seed, cudaStream_t stream);

// The bytes that one block reads at a time; read_all takes a multiple of them.
constexpr std::size_t kReadPiece = std::size_t{64} << 10;

// Reads every byte once, marked as not to be kept in the caches. `sink`, of one word, is written only by the accident
// that a thread's sum is a certain value.
void read_all(std::span<const std::byte> from, int blocks, std::uint32_t* sink, cudaStream_t stream);

// Keeps the stream busy, so that what the host submits behind it is all there when the device gets to it.
void hold(double seconds, cudaStream_t stream);

}  // namespace megamoe::bench
