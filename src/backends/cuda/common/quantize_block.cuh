// One 16-block of a row, bf16 or f32, to NVFP4: what a thread does. The bytes are those of the host's recipes: rne by
// the fast form of quant/nvfp4_fast_block.h where that is exact, and everything else by the very functions that the
// host runs.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "backends/cuda/common/stages.h"
#include "megamoe/formats/bf16.h"
#include "quant/nvfp4_fast_block.h"

namespace megamoe::cuda {

inline constexpr int kChunk = 8;  // elements that lie together whatever the interleaving
inline constexpr int kPairs = kNvfp4Block / 2;

// PTX ISA 9.7.3.12 and 9.7.4.6, max.NaN: NaN if either operand is.
__device__ inline float max_or_nan(float a, float b) {
  float max;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
  return max;
}
__device__ inline std::uint32_t max_or_nan_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t max;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(max) : "r"(a), "r"(b));
  return max;
}

__device__ inline std::uint32_t upper_halves(float even, float odd) {  // two bf16 in the order of memory
  return __byte_perm(float_bits(even), float_bits(odd), 0x7632);
}

// One 16-block as it is loaded. pair(i): the elements 2i and 2i + 1 as two bf16, of which only the signs count in f32.
struct Bf16Block {
  using Element = std::uint16_t;
  std::uint32_t words[kPairs] = {};

  __device__ void load_chunk(int chunk, const Element* from) {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    words[4 * chunk] = four.x;
    words[4 * chunk + 1] = four.y;
    words[4 * chunk + 2] = four.z;
    words[4 * chunk + 3] = four.w;
  }
  __device__ float element(int i) const {
    return float_from_bits(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xFFFF0000u);
  }
  __device__ std::uint32_t pair(int i) const { return words[i]; }
  __device__ float amax_or_nan() const {
    std::uint32_t max = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) max = max_or_nan_bf16x2(max, words[i] & 0x7FFF7FFFu);
    return max_or_nan(float_from_bits(max << 16), float_from_bits(max & 0xFFFF0000u));
  }
};

struct F32Block {
  using Element = float;
  float x[kNvfp4Block] = {};

  __device__ void load_chunk(int chunk, const Element* from) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = *reinterpret_cast<const float4*>(from + 4 * half);
      const int at = kChunk * chunk + 4 * half;
      x[at] = four.x;
      x[at + 1] = four.y;
      x[at + 2] = four.z;
      x[at + 3] = four.w;
    }
  }
  __device__ float element(int i) const { return x[i]; }
  __device__ std::uint32_t pair(int i) const { return upper_halves(x[2 * i], x[2 * i + 1]); }
  __device__ float amax_or_nan() const {
    float max = 0.0f;
#pragma unroll
    for (int i = 0; i < kNvfp4Block; ++i) max = max_or_nan(max, std::fabs(x[i]));
    return max;
  }
};

// What the block adds to the row's amax, as bits, which order like the magnitudes. Recipe rne ignores NaN elements.
template <class Block, BlockRecipe kRecipe>
__device__ inline std::uint32_t amax_bits(const Block& block) {
  float amax = block.amax_or_nan();
  if (kRecipe == BlockRecipe::kRne && float_is_nan(amax)) {
    amax = 0.0f;
#pragma unroll
    for (int i = 0; i < kNvfp4Block; ++i)
      amax = fmaxf(amax, std::fabs(block.element(i)));  // of a NaN and a number, the number
  }
  return float_bits(amax);
}

template <BlockRecipe kRecipe>
__device__ inline float computed_scale(std::uint32_t bits) {
  const float amax = float_from_bits(bits);
  return kRecipe == BlockRecipe::kRne ? nvfp4_computed_global_scale(amax, kNvfp4ScaleMax)
                                      : nvfp4_bridge_global_scale(amax);
}

// The codes of eight rounded magnitudes with the signs of four pairs.
__device__ inline std::uint32_t pack_codes(const float* magnitude, const std::uint32_t* pair) {
  std::uint32_t byte_at_22[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    byte_at_22[i] = e2m1_code_at_bit_22(magnitude[2 * i + 1]) * 16u + e2m1_code_at_bit_22(magnitude[2 * i]);
  const std::uint32_t codes = byte_at_22[0] >> 22 | byte_at_22[1] >> 14 | byte_at_22[2] >> 6 | byte_at_22[3] << 2;
  // The sign of a pair's even element is the top bit of byte 1, of its odd one that of byte 3.
  const std::uint32_t even =
      __byte_perm(__byte_perm(pair[0], pair[1], 0x0051), __byte_perm(pair[2], pair[3], 0x0051), 0x5410);
  const std::uint32_t odd =
      __byte_perm(__byte_perm(pair[0], pair[1], 0x0073), __byte_perm(pair[2], pair[3], 0x0073), 0x5410);
  return codes | (even & 0x80808080u) >> 4 | (odd & 0x80808080u);
}

struct Quantised {
  std::uint32_t codes[2];
  std::uint32_t values[kPairs];  // two bf16 each
  std::uint8_t sf;
};

__device__ inline std::uint32_t packed_bytes(const std::uint8_t* bytes) {
  return bytes[0] | static_cast<std::uint32_t>(bytes[1]) << 8 | static_cast<std::uint32_t>(bytes[2]) << 16 |
         static_cast<std::uint32_t>(bytes[3]) << 24;
}

// The host's own functions, one division an element.
template <class Block, BlockRecipe kRecipe>
__device__ inline void quantize_by_division(const Block& block, float global_scale, Quantised& out) {
  float x[kNvfp4Block];
  std::uint8_t codes[kNvfp4BlockBytes];
#pragma unroll
  for (int i = 0; i < kNvfp4Block; ++i) x[i] = block.element(i);
  out.sf = kRecipe == BlockRecipe::kRne ? nvfp4_block_rne(x, global_scale, codes)
                                        : nvfp4_block_bridge(x, global_scale, codes);
  const float scale = e4m3_to_float(out.sf);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const std::uint32_t even = bf16_from_float(e2m1_to_float(nvfp4_even_k(codes[i])) * scale);
    const std::uint32_t odd = bf16_from_float(e2m1_to_float(nvfp4_odd_k(codes[i])) * scale);
    out.values[i] = even | odd << 16;
  }
  out.codes[0] = packed_bytes(codes);
  out.codes[1] = packed_bytes(codes + 4);
}

template <class Block, BlockRecipe kRecipe>
__device__ inline void quantize(const Block& block, float global_scale, bool wants_codes, bool wants_values,
                                Quantised& out) {
  if constexpr (kRecipe == BlockRecipe::kRne) {
    const float amax = block.amax_or_nan();
    out.sf = e4m3_from_float(amax / (kE2m1Max * global_scale));
    const float step = nvfp4_step(out.sf, global_scale);
    if (nvfp4_has_fast_form(amax, step)) {
      const StepReciprocal reciprocal = StepReciprocal::of(step);
      std::uint32_t pair[kPairs];
      float magnitude[kNvfp4Block];
#pragma unroll
      for (int i = 0; i < kPairs; ++i) pair[i] = block.pair(i);
#pragma unroll
      for (int i = 0; i < kNvfp4Block; ++i) magnitude[i] = e2m1_rounded_unsaturated(reciprocal.times(block.element(i)));
      if (wants_codes) {
        out.codes[0] = pack_codes(magnitude, pair);
        out.codes[1] = pack_codes(magnitude + 8, pair + 4);
      }
      if (wants_values) {
        const float scale = e4m3_to_float(out.sf);
#pragma unroll
        for (int i = 0; i < kPairs; ++i)  // exact: at most six significant bits
          out.values[i] =
              upper_halves(magnitude[2 * i] * scale, magnitude[2 * i + 1] * scale) | (pair[i] & 0x80008000u);
      }
      return;
    }
  }
  quantize_by_division<Block, kRecipe>(block, global_scale, out);
}

}  // namespace megamoe::cuda
