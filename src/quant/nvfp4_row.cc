// One row to NVFP4 and back.
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"
#include "quant/nvfp4_search.h"

namespace megamoe {
namespace {

// A template, so that the block arithmetic is inlined into the loop over a row.
template <std::uint8_t (*kQuantizeBlock)(const float*, float, std::uint8_t*)>
void quantize_blocks(std::span<const float> row, float global_scale, std::uint8_t* codes, std::uint8_t* sf) {
  const auto blocks = static_cast<std::int64_t>(row.size()) / kNvfp4Block;
  for (std::int64_t b = 0; b < blocks; ++b)
    sf[b] = kQuantizeBlock(row.data() + b * kNvfp4Block, global_scale, codes + b * kNvfp4BlockBytes);
}

}  // namespace

void quantize_nvfp4_row(QuantRecipe recipe, std::span<const float> row, float global_scale, std::uint8_t* codes,
                        std::uint8_t* sf) noexcept {
  switch (recipe) {
    case QuantRecipe::kRne:
      return quantize_blocks<nvfp4_block_rne>(row, global_scale, codes, sf);
    case QuantRecipe::kBridge:
      return quantize_blocks<nvfp4_block_bridge>(row, global_scale, codes, sf);
    case QuantRecipe::kFourSix:
      return quantize_blocks<nvfp4_block_four_six>(row, global_scale, codes, sf);
    case QuantRecipe::kMse:
      return quantize_blocks<nvfp4_block_mse>(row, global_scale, codes, sf);
  }
}

void dequantize_nvfp4_row(const std::uint8_t* codes, const std::uint8_t* sf, float global_scale,
                          std::span<float> row) noexcept {
  const auto k = static_cast<std::int64_t>(row.size());
  for (std::int64_t b = 0; b < k / kNvfp4Block; ++b) {
    const float step = nvfp4_step(sf[b], global_scale);
    for (int i = 0; i < kNvfp4BlockBytes; ++i) {
      const std::uint8_t packed = codes[b * kNvfp4BlockBytes + i];
      row[b * kNvfp4Block + 2 * i] = e2m1_to_float(nvfp4_even_k(packed)) * step;
      row[b * kNvfp4Block + 2 * i + 1] = e2m1_to_float(nvfp4_odd_k(packed)) * step;
    }
  }
}

}  // namespace megamoe
