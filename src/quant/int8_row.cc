#include <algorithm>

#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {
namespace {

constexpr float kInt8Max = 127.0f;

std::int8_t int8_from_float(float value) {
  const float clamped = std::min(std::max(value, -kInt8Max), kInt8Max);
  const float rounded = (clamped + 0x1.8p23f) - 0x1.8p23f;  // floats in [2^23, 2^24) have steps of 1
  return static_cast<std::int8_t>(static_cast<std::int32_t>(rounded));
}

}  // namespace

void quantize_int8_row(std::span<const float> row, std::int8_t* q, float* scales) noexcept {
  const auto k = static_cast<std::int64_t>(row.size());
  for (std::int64_t begin = 0; begin < k; begin += kInt8Block) {
    const std::int64_t n = std::min<std::int64_t>(kInt8Block, k - begin);
    const float* x = row.data() + begin;
    const float scale = nan_or_amax(x, n) / kInt8Max;
    scales[begin / kInt8Block] = scale;
    if (scale > 0 && scale < float_from_bits(kFloatInfBits))
      for (std::int64_t i = 0; i < n; ++i) q[begin + i] = int8_from_float(x[i] / scale);
    else
      std::fill_n(q + begin, n, std::int8_t{0});
  }
}

void dequantize_int8_row(const std::int8_t* q, const float* scales, std::span<float> row) noexcept {
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(q[i]) * scales[i / kInt8Block];
}

}  // namespace megamoe
