#include "backends/cpu/activation_buffer.h"

#include <algorithm>

#include "backends/cpu/packed_layout.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"

namespace megamoe::cpu {
namespace {

template <class T>
T* at(std::span<T> all, std::int64_t row, std::int64_t width) {
  return all.data() + row * width;
}

}  // namespace

ActivationBuffer::ActivationBuffer(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t k)
    : format_(format), k_(k), k_padded_(tiles_of(k) * kTileK) {
  if (format == ActivationFormat::kBf16) {
    wide_ = carver.take<float>(rows * k);
    return;
  }
  const bool nvfp4 = format == ActivationFormat::kNvfp4;
  scales_ = k_padded_ / (nvfp4 ? kNvfp4Block : kInt8Block);
  q_ = carver.take<std::int8_t>(rows * k_padded_);
  scale_ = carver.take<float>(rows * scales_);
  offset_ = carver.take<std::int32_t>(rows * k_padded_ / 16);
  if (!nvfp4) return;
  codes_ = carver.take<std::uint8_t>(rows * k / 2);
  sf_ = carver.take<std::uint8_t>(rows * k / kNvfp4Block);
  global_scale_ = carver.take<float>(rows);
}

void ActivationBuffer::store_offsets(std::int64_t row, std::int64_t begin, std::int64_t count) {
  const std::int8_t* q = at(q_, row, k_padded_);
  std::int32_t* offset = at(offset_, row, k_padded_ / 16);
  for (std::int64_t k = begin; k < begin + count; k += 16) {
    std::int32_t sum = 0;
    for (std::int64_t i = k; i < k + 16; ++i) sum += q[i];
    offset[k / 16] = -12 * sum;
  }
}

// Padding is read by the kernels, and a NaN scale there would poison the row.
void ActivationBuffer::pad(std::int64_t row) {
  std::fill(at(q_, row, k_padded_) + k_, at(q_, row + 1, k_padded_), std::int8_t{0});
  const std::int64_t used = ceil_div(k_, k_padded_ / scales_);
  std::fill(at(scale_, row, scales_) + used, at(scale_, row + 1, scales_), 0.0f);
  std::fill(at(offset_, row, k_padded_ / 16) + k_ / 16, at(offset_, row + 1, k_padded_ / 16), 0);
}

void ActivationBuffer::store(std::int64_t row, std::span<const float> values) {
  if (format_ != ActivationFormat::kNvfp4) {
    store_part(row, 0, values);
    return;
  }
  std::uint8_t* codes = at(codes_, row, k_ / 2);
  std::uint8_t* sf = at(sf_, row, k_ / kNvfp4Block);
  const float global_scale = nvfp4_global_scale(QuantRecipe::kRne, nvfp4_amax(QuantRecipe::kRne, values));
  quantize_nvfp4_row(QuantRecipe::kRne, values, global_scale, codes, sf);
  global_scale_[static_cast<std::size_t>(row)] = global_scale;
  std::int8_t* q = at(q_, row, k_padded_);
  for (std::int64_t i = 0; i < k_ / 2; ++i) {
    q[2 * i] = static_cast<std::int8_t>(e2m1_doubled(nvfp4_even_k(codes[i])));
    q[2 * i + 1] = static_cast<std::int8_t>(e2m1_doubled(nvfp4_odd_k(codes[i])));
  }
  for (std::int64_t b = 0; b < k_ / kNvfp4Block; ++b) at(scale_, row, scales_)[b] = 0.5f * e4m3_to_float(sf[b]);
  store_offsets(row, 0, k_);
  pad(row);
}

void ActivationBuffer::store_part(std::int64_t row, std::int64_t begin, std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  if (format_ == ActivationFormat::kBf16) {
    std::transform(values.begin(), values.end(), at(wide_, row, k_) + begin,
                   [](float value) { return bf16_to_float(bf16_from_float(value)); });
    return;
  }
  quantize_int8_row(values, at(q_, row, k_padded_) + begin, at(scale_, row, scales_) + begin / kInt8Block);
  store_offsets(row, begin, count);
  if (begin + count == k_) pad(row);
}

ActivationRow ActivationBuffer::row(std::int64_t row) const {
  if (format_ == ActivationFormat::kBf16) return {.wide = at(wide_, row, k_)};
  return {.q = at(q_, row, k_padded_), .scale = at(scale_, row, scales_), .offset = at(offset_, row, k_padded_ / 16)};
}

float ActivationBuffer::global_scale(std::int64_t row) const {
  return format_ == ActivationFormat::kNvfp4 ? global_scale_[static_cast<std::size_t>(row)] : 1.0f;
}

void ActivationBuffer::copy_to(std::int64_t rows, Intermediate::Rows& out) const {
  out = {.format = format_, .rows = rows, .inter = k_};
  switch (format_) {
    case ActivationFormat::kBf16:
      out.bf16.resize(static_cast<std::size_t>(rows * k_));
      std::transform(wide_.begin(), wide_.begin() + rows * k_, out.bf16.begin(), bf16_from_float);
      break;
    case ActivationFormat::kNvfp4:
      out.codes.assign(codes_.begin(), codes_.begin() + rows * k_ / 2);
      out.sf.assign(sf_.begin(), sf_.begin() + rows * k_ / kNvfp4Block);
      out.global_scale.assign(global_scale_.begin(), global_scale_.begin() + rows);
      break;
    case ActivationFormat::kInt8:
      for (std::int64_t row = 0; row < rows; ++row) {
        out.int8.insert(out.int8.end(), at(q_, row, k_padded_), at(q_, row, k_padded_) + k_);
        out.int8_scale.insert(out.int8_scale.end(), at(scale_, row, scales_), at(scale_, row + 1, scales_));
      }
      break;
  }
}

}  // namespace megamoe::cpu
