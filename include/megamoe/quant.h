// Quantising to NVFP4 and INT8, and back. Serial functions over host memory: callers split rows over threads.
//
// Sources are BF16, FP16 or FP32, dense and row-major, of any alignment. K, the reduction dimension, must be a multiple
// of 16. The block arithmetic of `rne` and `bridge` is in quant/nvfp4_block.h; what each recipe adds:
//
//   recipe    computed global scale                 block scale
//   rne       amax / 2688 (6 * 448)                 E4M3(block amax / (6 g)), saturating
//   bridge    max(amax, 1e-8) / 2688                as rne, but without saturation; flushes blocks below 6 * 2^-9 * g
//   four_six  amax / 1536 (6 * 256)                 the better of E4M3(block amax / (6 g)) and E4M3(block amax / (4 g))
//   mse       amax / 1536                           the best of all E4M3 from 0.55 to 1.65 times block amax / (6 g)
//
// amax ignores NaN (their blocks carry them), except in bridge, where one NaN makes the global scale NaN. Except in
// bridge, a computed global scale is at least FLT_MIN, and 1 when amax is 0. The global scale of four_six and mse
// leaves room for block scales above the one that maps the largest value to 6.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe {

enum class QuantRecipe : std::uint8_t { kRne, kBridge, kFourSix, kMse };

std::string_view quant_recipe_name(QuantRecipe recipe) noexcept;  // "rne", "bridge", "four_six", "mse"
// Returns false, and leaves *recipe alone, for a name that is none of these.
bool parse_quant_recipe(std::string_view name, QuantRecipe* recipe) noexcept;

// ---- NVFP4, one row: no allocation, no checks, never throws
// ----------------------------------------------------------

// The amax from which `recipe` computes a global scale.
float nvfp4_amax(QuantRecipe recipe, std::span<const float> values) noexcept;

float nvfp4_global_scale(QuantRecipe recipe, float amax) noexcept;

// row [k], codes [k/2], sf [k/16]; k = row.size(), a multiple of 16.
void quantize_nvfp4_row(QuantRecipe recipe, std::span<const float> row, float global_scale, std::uint8_t* codes,
                        std::uint8_t* sf) noexcept;

// codes [k/2], sf [k/16] to row [k].
void dequantize_nvfp4_row(const std::uint8_t* codes, const std::uint8_t* sf, float global_scale,
                          std::span<float> row) noexcept;

// ---- NVFP4, whole tensors
// ---------------------------------------------------------------------------------------------

enum class GlobalScaleMode : std::uint8_t {
  kPerTensor,  // one, computed from the whole source
  kPerToken,   // one per row, computed from the row: activations
  kStatic,     // one, given by the caller: what it cannot reach saturates (bridge: becomes NaN)
};

struct Nvfp4Options {
  QuantRecipe recipe = QuantRecipe::kRne;
  GlobalScaleMode mode = GlobalScaleMode::kPerTensor;
  float static_global_scale = 0;  // of kStatic only; finite and above 0
};

// Where a quantised tensor goes. global_scales has one element, or one per row with kPerToken.
struct Nvfp4Output {
  std::span<std::uint8_t> codes;
  std::span<std::uint8_t> sf;
  std::span<float> global_scales;
};

struct Nvfp4Tensor {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> sf;
  std::vector<float> global_scales;
};

// max |x| over the source, as recipe's global scale wants it. For tensors that share one global scale, take the larger
// of their amax.
float nvfp4_amax(QuantRecipe recipe, const ConstTensorView& source);

// Along rows: source [..., k], all leading dimensions together are rows; codes [rows, k/2], sf [rows, k/16].
// Throws kInvalidArgument before anything is written: source type or shape, static scale, sizes of the output.
void quantize_nvfp4(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out);
Nvfp4Tensor quantize_nvfp4(const ConstTensorView& source, const Nvfp4Options& options);

// Along K of a weight kept as (K, N): source [k, n], codes [k/2, n] (low nibble = even K), sf [k/16, n]. kPerToken has
// no meaning here and is refused. layout.h turns the result into canonical rows.
void quantize_nvfp4_along_k(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out);
Nvfp4Tensor quantize_nvfp4_along_k(const ConstTensorView& source, const Nvfp4Options& options);

// codes [rows, k/2], sf [rows, k/16], global_scales [1] or [rows] to values [rows, k].
void dequantize_nvfp4(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> sf,
                      std::span<const float> global_scales, std::int64_t rows, std::int64_t k, std::span<float> values);

// ---- INT8 activations
// -------------------------------------------------------------------------------------------------

inline constexpr int kInt8Block = 64;  // values of one FP32 scale; a row's last block may be shorter

constexpr std::int64_t int8_scales(std::int64_t k) { return (k + kInt8Block - 1) / kInt8Block; }

// row [k], q [k], scales [ceil(k/64)]; k = row.size(). No allocation, no checks, never throws. In each block:
//   scale = amax / 127                               amax is NaN if any value is
//   q     = nearest-even integer of x / scale, within ±127
// A scale of 0 (amax 0, or too small), Inf or NaN has q = 0; under Inf and NaN the block dequantises to NaN: it
// surfaces.
void quantize_int8_row(std::span<const float> row, std::int8_t* q, float* scales) noexcept;

// row[i] = q[i] * scales[i / 64]
void dequantize_int8_row(const std::int8_t* q, const float* scales, std::span<float> row) noexcept;

}  // namespace megamoe
