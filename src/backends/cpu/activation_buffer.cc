#include "backends/cpu/activation_buffer.h"

#include <algorithm>

#include "backends/cpu/kernels_plain.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"

namespace megamoe::cpu {
namespace {

// Rows are a cache line further apart than they are long: kernels read the same place of up to 12 rows at once, and
// rows at a multiple of 4096 bytes would share the 8 lines of one set of the L1 cache.
constexpr std::int64_t kLine = 64;

constexpr std::int64_t kPart = 64;  // elements whose tiny values are noted together

template <class T>
T* at(std::span<T> all, std::int64_t row, std::int64_t width) {
  return all.data() + row * width;
}

}  // namespace

ActivationBuffer::ActivationBuffer(Carver& carver, const Kernels& kernels, ActivationFormat format, std::int64_t rows,
                                   std::int64_t k)
    : kernels_(&kernels), format_(format), k_(k), k_padded_(tiles_of(k) * kTileK), parts_(ceil_div(k, kPart)) {
  if (format == ActivationFormat::kBf16) {
    if (kernels.bf16_rows) {
      stride_ = k + kLine / 2;
      bf16_ = carver.take<std::uint16_t>(rows * stride_);
      tiny_ = carver.take<std::uint8_t>(rows * parts_);
    } else {
      stride_ = k + kLine / 4;
      wide_ = carver.take<float>(rows * stride_);
    }
    return;
  }
  const bool nvfp4 = format == ActivationFormat::kNvfp4;
  scales_ = k_padded_ / (nvfp4 ? kNvfp4Block : kInt8Block);
  stride_ = k_padded_ + kLine;
  q_ = carver.take<std::int8_t>(rows * stride_);
  scale_ = carver.take<float>(rows * scales_);
  offset_ = carver.take<std::int32_t>(rows * k_padded_ / 16);
  if (nvfp4) global_scale_ = carver.take<float>(rows);
}

// Padding is read by the kernels, and a NaN scale there would poison the row.
void ActivationBuffer::pad(std::int64_t row) {
  std::fill(at(q_, row, stride_) + k_, at(q_, row, stride_) + k_padded_, std::int8_t{0});
  const std::int64_t used = ceil_div(k_, k_padded_ / scales_);
  std::fill(at(scale_, row, scales_) + used, at(scale_, row + 1, scales_), 0.0f);
  std::fill(at(offset_, row, k_padded_ / 16) + k_ / 16, at(offset_, row + 1, k_padded_ / 16), 0);
}

void ActivationBuffer::store(std::int64_t row, std::span<const float> values) {
  if (format_ != ActivationFormat::kNvfp4) {
    store_part(row, 0, values);
    return;
  }
  global_scale_[static_cast<std::size_t>(row)] = kernels_->round_nvfp4(
      values.data(), k_, at(q_, row, stride_), at(scale_, row, scales_), at(offset_, row, k_padded_ / 16));
  pad(row);
}

void ActivationBuffer::store_bf16(std::int64_t row, std::int64_t begin, std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  std::uint16_t rounded[kPart];
  for (std::int64_t done = 0; done < count; done += kPart) {
    const std::int64_t n = std::min(kPart, count - done);
    if (!kernels_->bf16_rows) {
      kernels_->round_bf16(values.data() + done, n, rounded);
      kernels_->widen_bf16(rounded, n, at(wide_, row, stride_) + begin + done);
      continue;
    }
    const bool tiny = kernels_->round_bf16_pairs(values.data() + done, n, at(bf16_, row, stride_) + begin + done);
    tiny_[static_cast<std::size_t>(row * parts_ + (begin + done) / kPart)] = tiny ? 1 : 0;
  }
}

void ActivationBuffer::store_part(std::int64_t row, std::int64_t begin, std::span<const float> values) {
  if (format_ == ActivationFormat::kBf16) return store_bf16(row, begin, values);
  const auto count = static_cast<std::int64_t>(values.size());
  kernels_->round_int8(values.data(), count, at(q_, row, stride_) + begin,
                       at(scale_, row, scales_) + begin / kInt8Block, at(offset_, row, k_padded_ / 16) + begin / 16);
  if (begin + count == k_) pad(row);
}

ActivationRow ActivationBuffer::row(std::int64_t row) const {
  ActivationRow result{};
  if (format_ != ActivationFormat::kBf16) {
    result.q = at(q_, row, stride_);
    result.scale = at(scale_, row, scales_);
    result.offset = at(offset_, row, k_padded_ / 16);
  } else if (kernels_->bf16_rows) {
    const std::uint8_t* tiny = at(tiny_, row, parts_);
    result.bf16 = at(bf16_, row, stride_);
    result.is_tiny = std::find(tiny, tiny + parts_, 1) != tiny + parts_;
  } else {
    result.wide = at(wide_, row, stride_);
  }
  return result;
}

float ActivationBuffer::global_scale(std::int64_t row) const {
  return format_ == ActivationFormat::kNvfp4 ? global_scale_[static_cast<std::size_t>(row)] : 1.0f;
}

void ActivationBuffer::copy_to(std::int64_t rows, std::span<const float> unrounded, Intermediate::Rows& out) const {
  out = {.format = format_, .rows = rows, .inter = k_};
  switch (format_) {
    case ActivationFormat::kBf16:
      for (std::int64_t row = 0; row < rows; ++row) {
        out.bf16.resize(static_cast<std::size_t>((row + 1) * k_));
        std::uint16_t* to = out.bf16.data() + row * k_;
        if (kernels_->bf16_rows) {
          std::copy_n(at(bf16_, row, stride_), k_, to);
          plain::reorder_pairs(to, k_);
        } else {
          kernels_->round_bf16(at(wide_, row, stride_), k_, to);
        }
      }
      break;
    case ActivationFormat::kNvfp4:
      out.codes.resize(static_cast<std::size_t>(rows * k_ / 2));
      out.sf.resize(static_cast<std::size_t>(rows * k_ / kNvfp4Block));
      out.global_scale.assign(global_scale_.begin(), global_scale_.begin() + rows);
      for (std::int64_t row = 0; row < rows; ++row)
        quantize_nvfp4_row(QuantRecipe::kRne,
                           unrounded.subspan(static_cast<std::size_t>(row * k_), static_cast<std::size_t>(k_)),
                           global_scale(row), out.codes.data() + row * k_ / 2, out.sf.data() + row * k_ / kNvfp4Block);
      break;
    case ActivationFormat::kInt8:
      for (std::int64_t row = 0; row < rows; ++row) {
        out.int8.insert(out.int8.end(), at(q_, row, stride_), at(q_, row, stride_) + k_);
        out.int8_scale.insert(out.int8_scale.end(), at(scale_, row, scales_), at(scale_, row + 1, scales_));
      }
      break;
  }
}

}  // namespace megamoe::cpu
