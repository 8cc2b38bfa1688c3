#include "backends/reference/operand.h"

#include <algorithm>
#include <cstring>

#include "megamoe/formats/bf16.h"

namespace megamoe::reference {

Operand Operand::take(Carver& carver, std::int64_t max_cols) {
  return {.elements = carver.take<float>(max_cols),
          .block_scale = carver.take<float>(max_cols / kNvfp4Block),
          .group_scale = carver.take<float>(int8_scales(max_cols))};
}

Operand Operand::first(std::int64_t cols) const {
  return {.elements = elements.first(static_cast<std::size_t>(cols)),
          .block_scale = block_scale.first(static_cast<std::size_t>(cols / kNvfp4Block)),
          .group_scale = group_scale.first(static_cast<std::size_t>(int8_scales(cols)))};
}

void Operand::unpack_bf16(const std::byte* bits) {
  for (std::size_t k = 0; k < elements.size(); ++k) {
    std::uint16_t element = 0;
    std::memcpy(&element, bits + 2 * k, 2);
    elements[k] = bf16_to_float(element);
  }
  std::fill(block_scale.begin(), block_scale.end(), 1.0f);
  std::fill(group_scale.begin(), group_scale.end(), 1.0f);
  row_scale = 1.0f;
}

void Operand::unpack_nvfp4(const std::byte* codes, const std::byte* sf, float global_scale) {
  for (std::size_t i = 0; i < elements.size() / 2; ++i) {
    const auto packed = static_cast<std::uint8_t>(codes[i]);
    elements[2 * i] = e2m1_to_float(nvfp4_even_k(packed));
    elements[2 * i + 1] = e2m1_to_float(nvfp4_odd_k(packed));
  }
  for (std::size_t i = 0; i < block_scale.size(); ++i) {
    block_scale[i] = e4m3_to_float(static_cast<std::uint8_t>(sf[i]));
  }
  std::fill(group_scale.begin(), group_scale.end(), 1.0f);
  row_scale = global_scale;
}

void Operand::unpack_int8(const std::int8_t* q, const float* scales) {
  std::copy(q, q + elements.size(), elements.begin());
  std::fill(block_scale.begin(), block_scale.end(), 1.0f);
  std::copy(scales, scales + group_scale.size(), group_scale.begin());
  row_scale = 1.0f;
}

float dot(const Operand& a, const Operand& w) {
  constexpr std::size_t kBlocksPerGroup = kInt8Block / kNvfp4Block;
  float sum = 0.0f;
  for (std::size_t g = 0; g < a.group_scale.size(); ++g) {
    float group = 0.0f;
    const std::size_t end = std::min((g + 1) * kBlocksPerGroup, a.block_scale.size());
    for (std::size_t b = g * kBlocksPerGroup; b < end; ++b) {
      float block = 0.0f;
      for (std::size_t k = b * kNvfp4Block; k < (b + 1) * kNvfp4Block; ++k) block += a.elements[k] * w.elements[k];
      group += block * (a.block_scale[b] * w.block_scale[b]);
    }
    sum += group * a.group_scale[g];
  }
  return sum * (a.row_scale * w.row_scale);
}

}  // namespace megamoe::reference
