// Packed weights to A operands: the policies of the two GEMM loops. A policy loads what a thread needs of one tile
// (64 features x 64 K) and gives the registers a0..a3 of each of its four steps of 16 K. Layout: packed_weight.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backends/cuda/sm90/packed_weight.h"
#include "backends/cuda/sm90/ptx.cuh"

namespace megamoe::sm90 {

// Above a scale's byte, to make a bf16 of it.
inline constexpr std::uint32_t kScaleExponent = 0x70007000u;

// The sum of products comes out kScale times too small.
struct Nvfp4Weights {
  static constexpr WeightFormat kFormat = WeightFormat::kNvfp4;
  static constexpr int kTileBytes = kNvfp4TileBytes;
  static constexpr float kScale = kProductScale;

  // `lane` of the tile's 128 threads.
  __device__ __forceinline__ Nvfp4Weights(const std::byte* tile, int lane) {
    codes_ = *reinterpret_cast<const uint4*>(tile + 16 * lane);
    const uint2 scales = *reinterpret_cast<const uint2*>(tile + kNvfp4CodeBytes + 8 * (lane / 4));
    scales_[0] = scales.x;
    scales_[1] = scales.y;
  }

  // The same of a tile at an address in shared memory.
  __device__ __forceinline__ Nvfp4Weights(std::uint32_t tile, int lane) {
    codes_ = ptx::load_shared_16(tile + 16 * lane);
    const uint2 scales = ptx::load_shared_8(tile + kNvfp4CodeBytes + 8 * (lane / 4));
    scales_[0] = scales.x;
    scales_[1] = scales.y;
  }

  // 9 integer operations, 4 multiplications and a quarter of the scales' 6 for 8 weights: no layout of the bits was
  // found that needs fewer. Exact: bf16 multiplication keeps subnormals, and E2M1 * E4M3 has 6 significant bits.
  // `scale_exponent`: kScaleExponent, from wherever.
  template <int Step>
  __device__ __forceinline__ void fragment(std::uint32_t (&a)[4], std::uint32_t scale_exponent) const {
    const std::uint32_t word = Step == 0 ? codes_.x : Step == 1 ? codes_.y : Step == 2 ? codes_.z : codes_.w;
    const std::uint32_t packed = scales_[Step / 2];
    const std::uint32_t turned = Step % 2 == 0 ? packed : __funnelshift_l(packed, packed, 8);
    const std::uint32_t scale = (turned & 0x0FF00FF0u) | scale_exponent;
    constexpr std::uint32_t kCode = 0x81C081C0u;
    a[0] = word & kCode;
    a[1] = (word << 4) & kCode;
    a[2] = __funnelshift_r(word, word, 6) & kCode;
    a[3] = (__funnelshift_r(word, word, 2) & 0x81808180u) | ((word << 6) & 0x00400040u);
    const std::uint32_t row = ptx::repeat_low(scale);
    const std::uint32_t row8 = ptx::repeat_high(scale);
    a[0] = ptx::multiply_bf16x2(a[0], row);
    a[1] = ptx::multiply_bf16x2(a[1], row8);
    a[2] = ptx::multiply_bf16x2(a[2], row);
    a[3] = ptx::multiply_bf16x2(a[3], row8);
  }

 private:
  uint4 codes_;
  std::uint32_t scales_[2];
};

struct Bf16Weights {
  static constexpr WeightFormat kFormat = WeightFormat::kBf16;
  static constexpr int kTileBytes = kBf16TileBytes;
  static constexpr float kScale = 1.0f;

  __device__ __forceinline__ Bf16Weights(const std::byte* tile, int lane) : mine_(tile + 16 * lane) {}
  __device__ __forceinline__ Bf16Weights(std::uint32_t tile, int lane)
      : Bf16Weights(static_cast<const std::byte*>(__cvta_shared_to_generic(tile)), lane) {}

  template <int Step>
  __device__ __forceinline__ void fragment(std::uint32_t (&a)[4], std::uint32_t /*scale_exponent*/) const {
    const uint4 registers = *reinterpret_cast<const uint4*>(mine_ + 2048 * Step);
    a[0] = registers.x;
    a[1] = registers.y;
    a[2] = registers.z;
    a[3] = registers.w;
  }

 private:
  const std::byte* mine_;
};

}  // namespace megamoe::sm90
