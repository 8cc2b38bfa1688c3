// From accumulators to the result. A thread holds, of a warp's 16 rows of weights and 8 tokens, the four sums of
// m16n8's D (PTX ISA 9.7.14.5.8): row g and g + 8, token 2t and 2t + 1, for its lane 4 g + t.
//
// A sum is multiplied with (row's scale * weights' scale), as the contract has it, and with the decoder's power of two,
// which is exact wherever it stands.
#pragma once

#include <cuda_runtime.h>

#include "backends/cuda/sm90/activate.cuh"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/source_row.cuh"

namespace megamoe::sm90 {

// What a block knows of a tile's rows by itself.
struct OwnRows {
  const std::int32_t* choice_of = nullptr;  // in shared memory, where the block ordered the rows; nullptr: Gemm's
  const float* scales = nullptr;            // kLookedUp: of all columns, in shared memory
  const float* weight_scale = nullptr;      // kLookedUp: of the expert
};

// Scales and weights of the rows of one tile. kLookedUp: the block has looked the scales up already.
template <bool kLookedUp>
class TileRows {
 public:
  __device__ __forceinline__ TileRows(const Gemm& gemm, const cuda::TokenTile& tile, const OwnRows& own)
      : gemm_(gemm), tile_(tile), own_(own) {}

  __device__ __forceinline__ int count() const { return tile_.rows; }
  __device__ __forceinline__ bool has(int n) const { return n < tile_.rows; }
  __device__ __forceinline__ std::int64_t row(int n) const { return tile_.row + n; }
  __device__ __forceinline__ bool scales_x() const { return gemm_.x_scale != nullptr; }
  // Where scales_x().
  __device__ __forceinline__ float x_scale(int n) const {
    if constexpr (kLookedUp) return own_.scales[n];
    if (!has(n)) return 1.0f;
    return __ldcg(gemm_.x_scale + source_row(gemm_, own_.choice_of, tile_.row + n));
  }
  __device__ __forceinline__ float weight(int n) const {
    if (gemm_.row_weight == nullptr || !has(n)) return 1.0f;
    return __ldg(gemm_.row_weight + choice_of_row(gemm_, own_.choice_of, tile_.row + n));
  }

 private:
  const Gemm& gemm_;
  const cuda::TokenTile& tile_;
  OwnRows own_;
};

// What most calls ask of the tile loop has code of its own, without the branches that all the rest would take again for
// every few columns.
enum class EpilogueCase : std::uint8_t {
  kAny,
  kBf16,   // no scales of rows, no biases, no weights of rows, SiLU; bf16: h to tiles, y to rows
  kNvfp4,  // the same with scales of rows, and h in f32
};

// Of a thread's columns, two in each 8, how far the i-th is from the first.
__device__ constexpr int column_step(int i) { return i / 2 * 8 + i % 2; }

// `warp` of the panel's eight, each 16 rows.
template <GemmKind Kind, bool kLookedUp = false>
class Epilogue;

template <bool kLookedUp>
class Epilogue<GemmKind::kGateUp, kLookedUp> {
 public:
  // `h_tile`: of gemm.h_tiles, the tile's; kLookedUp alone.
  __device__ __forceinline__ Epilogue(const Gemm& gemm, const cuda::TokenTile& tile, int panel, int warp, int lane,
                                      float product_scale, int /*part*/ = 0, const OwnRows& own = {},
                                      std::uint16_t* h_tile = nullptr)
      : gemm_(gemm), rows_(gemm, tile, own), product_scale_(product_scale), lane_(lane) {
    const GemmWeights& w = gemm.weights;
    group_ = (panel * (kPanelFeatures / 16) + warp) * 8;  // of 8 channels; 16 divides their number
    if constexpr (kLookedUp) {
      tile_columns_ = static_cast<int>(cuda::tiled_columns(tile.rows));
      h_tile_ = h_tile + cuda::tiled_at(tile_columns_, lane / 4, group_) + lane % 4 * 2;
    }
    if (group_ >= w.channels) return;
    const int channel = group_ + lane / 4;
    gate_scale_ = kLookedUp ? own.weight_scale[0] : w.scale[0][tile.expert];
    up_scale_ = kLookedUp ? own.weight_scale[1] : w.scale[1][tile.expert];
    if (w.bias[0] == nullptr) return;
    const std::int64_t at = std::int64_t{tile.expert} * w.channels + channel;
    gate_bias_ = w.bias[0][at];
    up_bias_ = w.bias[1][at];
  }

  __device__ __forceinline__ EpilogueCase which() const {
    if (group_ >= gemm_.weights.channels || gemm_.weights.bias[0] != nullptr || gemm_.row_weight != nullptr ||
        gemm_.activation.kind == Activation::Kind::kSwigluOai)
      return EpilogueCase::kAny;
    if (rows_.scales_x()) return gemm_.h_f32 != nullptr ? EpilogueCase::kNvfp4 : EpilogueCase::kAny;
    return gemm_.h_f32 == nullptr && gemm_.h_tiles != nullptr ? EpilogueCase::kBf16 : EpilogueCase::kAny;
  }

  // One of four sums as store() wants it.
  template <EpilogueCase kCase>
  __device__ __forceinline__ float taken(float sum, int i) const {
    return kCase == EpilogueCase::kBf16 ? ptx::scaled(sum, (i < 2 ? gate_scale_ : up_scale_) * product_scale_) : sum;
  }

  // Sums of tokens n0 .. n0 + 8 * Blocks - 1, as taken() gave them. All lanes of the warp call it.
  template <EpilogueCase kCase, int Blocks>
  __device__ __forceinline__ void store(const float (&sum)[Blocks][4], int n0) const {
    constexpr bool kAny = kCase == EpilogueCase::kAny;
    float h[2 * Blocks], up[2 * Blocks];
    if (kAny && group_ >= gemm_.weights.channels) {
      if (gemm_.h_tiles == nullptr) return;
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) h[i] = 0.0f;  // what pads K to 64
      if constexpr (kLookedUp) store_tiles(h, n0);
      return;
    }
    if constexpr (kCase == EpilogueCase::kBf16) {
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        h[i] = sum[i / 2][i % 2];
        up[i] = sum[i / 2][2 + i % 2];
      }
    } else if (kAny && !rows_.scales_x()) {
      const float gate_scale = gate_scale_ * product_scale_;
      const float up_scale = up_scale_ * product_scale_;
      if (gemm_.weights.bias[0] == nullptr) {
#pragma unroll
        for (int i = 0; i < 2 * Blocks; ++i) {  // as below with a bias of 0
          h[i] = __fmaf_rn(sum[i / 2][i % 2], gate_scale, 0.0f);
          up[i] = __fmaf_rn(sum[i / 2][2 + i % 2], up_scale, 0.0f);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 2 * Blocks; ++i) {
          h[i] = sum[i / 2][i % 2] * gate_scale + gate_bias_;
          up[i] = sum[i / 2][2 + i % 2] * up_scale + up_bias_;
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        const float x_scale = rows_.x_scale(column(n0, i));
        h[i] = sum[i / 2][i % 2] * (x_scale * gate_scale_ * product_scale_) + gate_bias_;
        up[i] = sum[i / 2][2 + i % 2] * (x_scale * up_scale_ * product_scale_) + up_bias_;
      }
    }
    if constexpr (kCase == EpilogueCase::kBf16) {
      activate_for_bf16(gemm_.activation, h, up);
      return store_tiles(h, n0);
    }
    // Of the tile loop columns past a tile's rows repeat one of them.
    activate_all<!kAny>(gemm_.activation, h, up, [&](int i) { return kLookedUp || rows_.has(column(n0, i)); });
    if constexpr (kCase == EpilogueCase::kNvfp4) return store_f32(h, n0);
    if (gemm_.row_weight != nullptr) {
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) h[i] *= rows_.weight(column(n0, i));
    }
    if (gemm_.h_f32 != nullptr) return store_f32(h, n0);
    if constexpr (kLookedUp) {
      if (gemm_.h_tiles != nullptr) return store_tiles(h, n0);
    }
    store_bf16(h, n0);
  }

 private:
  __device__ __forceinline__ int column(int n0, int i) const { return n0 + lane_ % 4 * 2 + column_step(i); }

  template <int Count>
  __device__ __forceinline__ void store_f32(const float (&h)[Count], int n0) const {
    const int first = column(n0, 0);
    const int left = rows_.count() - first;
    const std::int32_t channels = gemm_.weights.channels;
    float* const to = gemm_.h_f32 + rows_.row(first) * channels + group_ + lane_ / 4;
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      const int n = column_step(i);
      ptx::store_if(n < left, to + std::int64_t{n} * channels, h[i]);
    }
  }

  template <int Count>
  __device__ __forceinline__ void store_bf16(const float (&h)[Count], int n0) const {
#pragma unroll
    for (int block = 0; block < Count / 2; ++block) {
      // Turned, a lane has two neighbouring channels of token g: four lanes write 16 bytes.
      const std::uint32_t pair = ptx::transpose(ptx::pack_bf16(h[2 * block], h[2 * block + 1]));
      const int token = n0 + block * 8 + lane_ / 4;
      if (!rows_.has(token)) continue;
      std::uint16_t* const out = gemm_.h_bf16 + rows_.row(token) * gemm_.weights.channels + group_ + lane_ % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(out) = pair;
    }
  }

  // The warp's 8 channels are one 16-byte piece of a column. All lanes of the warp. Columns that pad the tile are
  // written too.
  template <int Count>
  __device__ __forceinline__ void store_tiles(const float (&h)[Count], int n0) const {
    std::uint16_t* const first = h_tile_ + n0 * cuda::kTiledK;
    const int left = tile_columns_ - n0;
#pragma unroll
    for (int block = 0; block < Count / 2; ++block) {
      const std::uint32_t pair = ptx::transpose(ptx::pack_bf16(h[2 * block], h[2 * block + 1]));
      // Eight columns further pieces are in the same places.
      ptx::store_if(block * 8 < left, first + block * 8 * cuda::kTiledK, pair);
    }
  }

  const Gemm& gemm_;
  TileRows<kLookedUp> rows_;
  float product_scale_;
  int lane_;
  int group_;
  int tile_columns_;       // kLookedUp: of h_tiles
  std::uint16_t* h_tile_;  // there, this lane's two channels of column lane / 4
  float gate_scale_ = 1.0f, up_scale_ = 1.0f, gate_bias_ = 0.0f, up_bias_ = 0.0f;
};

template <bool kLookedUp>
class Epilogue<GemmKind::kDown, kLookedUp> {
 public:
  __device__ __forceinline__ Epilogue(const Gemm& gemm, const cuda::TokenTile& tile, int panel, int warp, int lane,
                                      float product_scale, int part = 0, const OwnRows& own = {},
                                      std::uint16_t* /*h_tile*/ = nullptr)
      : gemm_(gemm), rows_(gemm, tile, own), product_scale_(product_scale), lane_(lane) {
    const GemmWeights& w = gemm.weights;
    feature_ = panel * kPanelFeatures + warp * 16 + lane / 4 * 2;
    const std::int64_t first = std::int64_t{tile.row} * w.channels + feature_;
    out_ = gemm.y + part * gemm.part_rows * w.channels + first;
    out_bf16_ = gemm.y_bf16 + first;
    if (feature_ >= w.channels) return;  // 16 divides their number: all of the warp or none
    scale_ = kLookedUp ? own.weight_scale[0] : w.scale[0][tile.expert];
    if (w.bias[0] == nullptr || part != 0) return;
    const float* bias = w.bias[0] + std::int64_t{tile.expert} * w.channels + feature_;
    bias_[0] = bias[0];
    bias_[1] = bias[1];
  }

  __device__ __forceinline__ EpilogueCase which() const {
    if (feature_ >= gemm_.weights.channels || gemm_.weights.bias[0] != nullptr || gemm_.y_bf16 == nullptr)
      return EpilogueCase::kAny;
    return rows_.scales_x() ? EpilogueCase::kNvfp4 : EpilogueCase::kBf16;
  }

  // As kGateUp's.
  template <EpilogueCase kCase>
  __device__ __forceinline__ float taken(float sum, int /*i*/) const {
    return kCase == EpilogueCase::kBf16 ? ptx::scaled(sum, scale_ * product_scale_) : sum;
  }

  // As kGateUp's. A thread has two neighbouring features of a token, eight lanes 16.
  template <EpilogueCase kCase, int Blocks>
  __device__ __forceinline__ void store(const float (&sum)[Blocks][4], int n0) const {
    constexpr bool kAny = kCase == EpilogueCase::kAny;
    if (kAny && feature_ >= gemm_.weights.channels) return;
    const bool rounds = !kAny || gemm_.y_bf16 != nullptr;
    const bool has_bias = kAny && gemm_.weights.bias[0] != nullptr;
    const bool scales_x = kAny ? rows_.scales_x() : kCase == EpilogueCase::kNvfp4;
    float y0[2 * Blocks], y1[2 * Blocks];
    if constexpr (kCase == EpilogueCase::kBf16) {
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        y0[i] = sum[i / 2][i % 2];
        y1[i] = sum[i / 2][2 + i % 2];
      }
    } else if (!scales_x && !has_bias) {
      const float scale = scale_ * product_scale_;
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {  // as below with a bias of 0
        y0[i] = __fmaf_rn(sum[i / 2][i % 2], scale, 0.0f);
        y1[i] = __fmaf_rn(sum[i / 2][2 + i % 2], scale, 0.0f);
      }
    } else {
      const bool weighs_bias = has_bias && gemm_.row_weight != nullptr;
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        const int n = column(n0, i);
        const float scale = (scales_x ? rows_.x_scale(n) * scale_ : scale_) * product_scale_;
        const float bias_weight = weighs_bias ? rows_.weight(n) : 1.0f;
        y0[i] = sum[i / 2][i % 2] * scale + bias_[0] * bias_weight;
        y1[i] = sum[i / 2][2 + i % 2] * scale + bias_[1] * bias_weight;
      }
    }
    // Without branches, for they would keep the stores from each other; and all from the first one's place, for an
    // instruction each.
    const int first = column(n0, 0);
    const int left = rows_.count() - first;
    const std::int32_t channels = gemm_.weights.channels;
    if (rounds) {
      std::uint16_t* const to = out_bf16_ + std::int64_t{first} * channels;
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        const int n = column_step(i);
        ptx::store_if(n < left, to + std::int64_t{n} * channels, ptx::pack_bf16(y0[i], y1[i]));
      }
    } else {
      float* const to = out_ + std::int64_t{first} * channels;
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) {
        const int n = column_step(i);
        ptx::store_if(n < left, to + std::int64_t{n} * channels, y0[i], y1[i]);
      }
    }
  }

 private:
  __device__ __forceinline__ int column(int n0, int i) const { return n0 + lane_ % 4 * 2 + column_step(i); }

  const Gemm& gemm_;
  TileRows<kLookedUp> rows_;
  float product_scale_;
  int lane_;
  int feature_;
  float* out_;
  std::uint16_t* out_bf16_;
  float scale_ = 1.0f;
  float bias_[2] = {};
};

}  // namespace megamoe::sm90
