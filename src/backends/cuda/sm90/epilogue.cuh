// From accumulators to the result. A thread holds, of a warp's 16 rows of weights and 8 tokens, the four sums of
// m16n8's D (PTX ISA 9.7.14.5.8): row g and g + 8, token 2t and 2t + 1, for its lane 4 g + t.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "moe/activation_math.h"

namespace megamoe::sm90 {

// What a sum is multiplied with, in the contract's order: sum * (row's scale * weights' scale).
__device__ __forceinline__ float scaled(float sum, float product_scale, float x_scale, float weight_scale) {
  return sum * product_scale * (x_scale * weight_scale);
}

// Scales and weights of the rows of one tile.
class TileRows {
 public:
  __device__ __forceinline__ TileRows(const Gemm& gemm, const cuda::TokenTile& tile) : gemm_(gemm), tile_(tile) {}

  __device__ __forceinline__ bool has(int n) const { return n < tile_.rows; }
  __device__ __forceinline__ std::int64_t row(int n) const { return tile_.row + n; }
  __device__ __forceinline__ float x_scale(int n) const {
    if (gemm_.x_scale == nullptr || !has(n)) return 1.0f;
    const std::int64_t source =
        gemm_.gather_top_k == 0 ? row(n) : __ldcg(gemm_.choice_of + row(n)) / gemm_.gather_top_k;
    return __ldcg(gemm_.x_scale + source);
  }
  __device__ __forceinline__ float weight(int n) const {
    if (gemm_.row_weight == nullptr || !has(n)) return 1.0f;
    return __ldg(gemm_.row_weight + __ldcg(gemm_.choice_of + row(n)));
  }

 private:
  const Gemm& gemm_;
  const cuda::TokenTile& tile_;
};

// `warp` of the panel's eight, each 16 rows.
template <GemmKind Kind>
class Epilogue;

template <>
class Epilogue<GemmKind::kGateUp> {
 public:
  __device__ __forceinline__ Epilogue(const Gemm& gemm, const cuda::TokenTile& tile, int panel, int warp, int lane,
                                      float product_scale, int /*part*/ = 0)
      : gemm_(gemm), rows_(gemm, tile), product_scale_(product_scale), lane_(lane) {
    const GemmWeights& w = gemm.weights;
    group_ = (panel * (kPanelFeatures / 16) + warp) * 8;  // of 8 channels; 16 divides their number
    if (group_ >= w.channels) return;
    const int channel = group_ + lane / 4;
    gate_scale_ = w.scale[0][tile.expert];
    up_scale_ = w.scale[1][tile.expert];
    if (w.bias[0] == nullptr) return;
    const std::int64_t at = std::int64_t{tile.expert} * w.channels + channel;
    gate_bias_ = w.bias[0][at];
    up_bias_ = w.bias[1][at];
  }

  // Sums of tokens n0 .. n0 + 7. All lanes of the warp call it.
  __device__ __forceinline__ void store(const float (&sum)[4], int n0) const {
    if (group_ >= gemm_.weights.channels) return;
    const int n = n0 + lane_ % 4 * 2;
    const float h0 = value(sum[0], sum[2], n);
    const float h1 = value(sum[1], sum[3], n + 1);
    if (gemm_.h_f32 != nullptr) {
      float* out = gemm_.h_f32 + group_ + lane_ / 4;
      if (rows_.has(n)) out[rows_.row(n) * gemm_.weights.channels] = h0;
      if (rows_.has(n + 1)) out[rows_.row(n + 1) * gemm_.weights.channels] = h1;
      return;
    }
    // Turned, a lane has two neighbouring channels of token g: four lanes write 16 bytes.
    const std::uint32_t pair = ptx::transpose(ptx::pack_bf16(h0, h1));
    const int token = n0 + lane_ / 4;
    if (!rows_.has(token)) return;
    std::uint16_t* out = gemm_.h_bf16 + rows_.row(token) * gemm_.weights.channels + group_ + lane_ % 4 * 2;
    *reinterpret_cast<std::uint32_t*>(out) = pair;
  }

 private:
  __device__ __forceinline__ float value(float gate_sum, float up_sum, int n) const {
    const float x_scale = rows_.x_scale(n);
    const float gate = scaled(gate_sum, product_scale_, x_scale, gate_scale_) + gate_bias_;
    const float up = scaled(up_sum, product_scale_, x_scale, up_scale_) + up_bias_;
    const float h = activate(gemm_.activation, gate, up);
    return gemm_.row_weight == nullptr ? h : h * rows_.weight(n);
  }

  const Gemm& gemm_;
  TileRows rows_;
  float product_scale_;
  int lane_;
  int group_;
  float gate_scale_ = 1.0f, up_scale_ = 1.0f, gate_bias_ = 0.0f, up_bias_ = 0.0f;
};

template <>
class Epilogue<GemmKind::kDown> {
 public:
  __device__ __forceinline__ Epilogue(const Gemm& gemm, const cuda::TokenTile& tile, int panel, int warp, int lane,
                                      float product_scale, int part = 0)
      : gemm_(gemm), rows_(gemm, tile), product_scale_(product_scale), lane_(lane) {
    const GemmWeights& w = gemm.weights;
    feature_ = panel * kPanelFeatures + warp * 16 + lane / 4;
    out_ = gemm.y + part * gemm.part_rows * w.channels;
    if (feature_ - lane / 4 >= w.channels) return;  // 16 divides their number
    scale_ = w.scale[0][tile.expert];
    if (w.bias[0] == nullptr || part != 0) return;
    const float* bias = w.bias[0] + std::int64_t{tile.expert} * w.channels + feature_;
    bias_[0] = bias[0];
    bias_[1] = bias[8];
  }

  __device__ __forceinline__ void store(const float (&sum)[4], int n0) const {
    if (feature_ - lane_ / 4 >= gemm_.weights.channels) return;
    for (int i = 0; i < 2; ++i) {
      const int n = n0 + lane_ % 4 * 2 + i;
      if (!rows_.has(n)) continue;
      const float x_scale = rows_.x_scale(n);
      const float bias_weight = gemm_.weights.bias[0] == nullptr ? 1.0f : rows_.weight(n);
      float* out = out_ + rows_.row(n) * gemm_.weights.channels + feature_;
      out[0] = scaled(sum[i], product_scale_, x_scale, scale_) + bias_[0] * bias_weight;
      out[8] = scaled(sum[2 + i], product_scale_, x_scale, scale_) + bias_[1] * bias_weight;
    }
  }

 private:
  const Gemm& gemm_;
  TileRows rows_;
  float product_scale_;
  int lane_;
  int feature_;
  float* out_;
  float scale_ = 1.0f;
  float bias_[2] = {};
};

}  // namespace megamoe::sm90
