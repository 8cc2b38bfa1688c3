// The kernels in plain loops, for instruction sets without a vector form (Highway's scalar target; scalable vectors,
// which can not be kept in arrays). Slow, and the readable statement of what the vector kernels compute.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"
#include "moe/activation_math.h"

namespace megamoe::cpu::plain {

// The doubled code of a weight: 0, +-1, +-2, +-3, +-4, +-6, +-8, +-12.
inline int doubled_code(const std::byte* panel, std::int64_t lane, std::int64_t k) {
  const NibbleAt at = code_at(lane, k);
  return doubled_of_packed(std::to_integer<int>(panel[at.byte]) >> at.shift & 15);
}

inline float half_scale(const std::byte* panel, std::int64_t lane, std::int64_t k) {
  return 0.5f * ue5m3_to_float(std::to_integer<std::uint8_t>(panel[scale_byte(lane, k)]));
}

// The integer sum of one block of 16.
inline float block_products(const std::byte* panel, std::int64_t lane, std::int64_t k, const std::int8_t* q) {
  int sum = 0;
  for (std::int64_t i = k; i < k + 16; ++i) sum += doubled_code(panel, lane, i) * q[i];
  return static_cast<float>(sum);
}

inline float lane_nvfp4_int8(const std::byte* panel, std::int64_t lane, std::int64_t k, const ActivationRow& row) {
  float total = 0.0f;
  for (std::int64_t tile = 0; tile < tiles_of(k); ++tile) {
    float sum = 0.0f;
    for (std::int64_t i = tile * kTileK; i < (tile + 1) * kTileK; i += 16)
      sum = std::fma(block_products(panel, lane, i, row.q), half_scale(panel, lane, i), sum);
    total = std::fma(sum, row.scale[tile], total);
  }
  return total;
}

inline float lane_nvfp4_nvfp4(const std::byte* panel, std::int64_t lane, std::int64_t k, const ActivationRow& row) {
  float total = 0.0f;
  for (std::int64_t i = 0; i < tiles_of(k) * kTileK; i += 16)
    total = std::fma(block_products(panel, lane, i, row.q), half_scale(panel, lane, i) * row.scale[i / 16], total);
  return total;
}

inline float lane_nvfp4_bf16(const std::byte* panel, std::int64_t lane, std::int64_t k, const ActivationRow& row) {
  float total = 0.0f;
  for (std::int64_t block = 0; block < k; block += 16) {
    float sum = 0.0f;
    for (std::int64_t i = block; i < block + 16; ++i)
      sum = std::fma(static_cast<float>(doubled_code(panel, lane, i)), row.wide[i], sum);
    total = std::fma(sum, half_scale(panel, lane, block), total);
  }
  return total;
}

inline float lane_bf16_bf16(const std::byte* panel, std::int64_t lane, std::int64_t k, const ActivationRow& row) {
  float total = 0.0f;
  for (std::int64_t i = 0; i < k; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, panel + 2 * bf16_at(lane, i), sizeof(bits));
    total = std::fma(bf16_to_float(bits), row.wide[i], total);
  }
  return total;
}

template <auto Lane, WeightFormat kWeights = WeightFormat::kNvfp4>
void dot(const std::byte* panel, std::int64_t k, std::int64_t panels, const ActivationRow* activations,
         std::int64_t rows, float* out) {
  for (std::int64_t p = 0; p < panels; ++p, panel += panel_bytes(kWeights, k), out += rows * kLanes)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t lane = 0; lane < kLanes; ++lane) out[r * kLanes + lane] = Lane(panel, lane, k, activations[r]);
}

inline void activate(const Activation& activation, const float* gate, const float* up, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = megamoe::activate(activation, gate[i], up[i]);
}

inline void gate_up(const Activation& activation, const GateUp& of, const float* sums, float* out) {
  for (std::int64_t i = 0; i < kPairLanes; ++i) {
    float gate = sums[i] * of.gate_scale;
    float up = sums[kPairLanes + i] * of.up_scale;
    if (of.gate_bias != nullptr) {
      gate += of.gate_bias[i];
      up += of.up_bias[i];
    }
    out[i] = megamoe::activate(activation, gate, up) * of.row_weight;
  }
}

inline void scale(const float* sums, float scale, const float* bias, float row_weight, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] = sums[i] * scale;
    if (bias != nullptr) y[i] += bias[i] * row_weight;
  }
}

inline void axpy(float weight, const float* y, std::int64_t count, float* sum) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] = std::fma(weight, y[i], sum[i]);
}

inline void pack_words(const std::byte* codes, std::int64_t row_bytes, std::int64_t rows, std::int64_t tiles,
                       std::byte* out) {
  constexpr std::int64_t kTileWords = kTileK / 8;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t w = 0; w < tiles * kTileWords; ++w) {
      std::uint32_t word;
      std::memcpy(&word, codes + r * row_bytes + 4 * w, sizeof(word));
      word = packed_word(word);
      std::memcpy(out + w / kTileWords * kTileBytes + w % kTileWords * 4 * kLanes + 4 * r, &word, sizeof(word));
    }
}

// Leaves the work to the caller's own loop.
inline bool pack_scales(const std::byte*, std::int64_t, std::int64_t, std::int64_t, std::byte*) { return false; }

inline void store_offsets(const std::int8_t* q, std::int64_t count, std::int32_t* offset) {
  for (std::int64_t k = 0; k < count; k += 16) {
    std::int32_t sum = 0;
    for (std::int64_t i = k; i < k + 16; ++i) sum += q[i];
    offset[k / 16] = -12 * sum;
  }
}

inline void round_int8(const float* x, std::int64_t count, std::int8_t* q, float* scale, std::int32_t* offset) {
  quantize_int8_row({x, static_cast<std::size_t>(count)}, q, scale);
  store_offsets(q, count, offset);
}

inline float round_nvfp4(const float* x, std::int64_t k, std::int8_t* q, float* half_scale, std::int32_t* offset) {
  const std::span<const float> row(x, static_cast<std::size_t>(k));
  const float global_scale = nvfp4_global_scale(QuantRecipe::kRne, nvfp4_amax(QuantRecipe::kRne, row));
  for (std::int64_t block = 0; block < k; block += kNvfp4Block) {
    std::uint8_t codes[kNvfp4BlockBytes];
    const std::uint8_t sf = nvfp4_block_rne(x + block, global_scale, codes);
    half_scale[block / kNvfp4Block] = 0.5f * e4m3_to_float(sf);
    for (int i = 0; i < kNvfp4BlockBytes; ++i) {
      q[block + 2 * i] = static_cast<std::int8_t>(e2m1_doubled(nvfp4_even_k(codes[i])));
      q[block + 2 * i + 1] = static_cast<std::int8_t>(e2m1_doubled(nvfp4_odd_k(codes[i])));
    }
  }
  store_offsets(q, k, offset);
  return global_scale;
}

inline void round_bf16(const float* x, std::int64_t count, std::uint16_t* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_from_float(x[i]);
}

// Elements 1 and 2 of each four change places; the count is a multiple of 4. Its own inverse.
inline void reorder_pairs(std::uint16_t* bits, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 4) std::swap(bits[i + 1], bits[i + 2]);
}

inline bool round_bf16_pairs(const float* x, std::int64_t count, std::uint16_t* out) {
  round_bf16(x, count, out);
  reorder_pairs(out, count);
  return std::any_of(out, out + count, is_tiny_bf16);
}

inline void widen_bf16(const std::uint16_t* bits, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_to_float(bits[i]);
}

}  // namespace megamoe::cpu::plain
