#include "quant/nvfp4_search.h"

#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {
namespace {

constexpr float kSearchFrom = 0.55f;
constexpr float kSearchTo = 1.65f;

float squared_error(const float* x, std::uint8_t sf, float global_scale) {
  const float scale = sf == 0 ? 1.0f : e4m3_to_float(sf);
  const float keep = sf == 0 ? 0.0f : 1.0f;
  const float step = scale * global_scale;
  float error2[kNvfp4Block];
  for (int i = 0; i < kNvfp4Block; ++i) {
    const float q = float_abs(x[i] / step);
    const float difference = q - keep * e2m1_rounded_magnitude(q);
    error2[i] = difference * difference;
  }
  float sum = 0.0f;
  for (const float term : error2) sum += term;
  return (scale * scale) * sum;
}

std::uint8_t encode(const float* x, std::uint8_t sf, float global_scale, std::uint8_t* codes) {
  nvfp4_encode_block(x, nvfp4_step(sf, global_scale), codes);
  return sf;
}

}  // namespace

std::uint8_t nvfp4_block_four_six(const float* x, float global_scale, std::uint8_t* codes) noexcept {
  const float amax = nan_or_amax(x, kNvfp4Block);
  const std::uint8_t six = e4m3_from_float(amax / (6.0f * global_scale));
  const std::uint8_t four = e4m3_from_float(amax / (4.0f * global_scale));
  const bool four_is_better =
      six != kE4m3Nan && squared_error(x, four, global_scale) < squared_error(x, six, global_scale);
  return encode(x, four_is_better ? four : six, global_scale, codes);
}

std::uint8_t nvfp4_block_mse(const float* x, float global_scale, std::uint8_t* codes) noexcept {
  const float amax = nan_or_amax(x, kNvfp4Block);
  const float ratio = amax / (6.0f * global_scale);
  if (float_is_nan(ratio)) return encode(x, kE4m3Nan, global_scale, codes);
  const std::uint8_t last = e4m3_from_float(kSearchTo * ratio);
  std::uint8_t best = last;
  float best_error = squared_error(x, last, global_scale);
  for (int code = last - 1; code >= e4m3_from_float(kSearchFrom * ratio); --code) {
    const auto sf = static_cast<std::uint8_t>(code);
    const float error = squared_error(x, sf, global_scale);
    if (error < best_error) {
      best = sf;
      best_error = error;
    }
  }
  return encode(x, best, global_scale, codes);
}

}  // namespace megamoe
