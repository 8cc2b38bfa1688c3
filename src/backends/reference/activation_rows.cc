#include "backends/reference/activation_rows.h"

#include <algorithm>

#include "megamoe/formats/bf16.h"
#include "megamoe/quant.h"

namespace megamoe::reference {

ActivationRows ActivationRows::take(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t cols) {
  ActivationRows out;
  out.format = format;
  out.cols = cols;
  switch (format) {
    case ActivationFormat::kBf16:
      out.bf16 = carver.take<std::uint16_t>(rows * cols);
      break;
    case ActivationFormat::kNvfp4:
      out.codes = carver.take<std::uint8_t>(rows * cols / 2);
      out.sf = carver.take<std::uint8_t>(rows * cols / kNvfp4Block);
      out.global_scale = carver.take<float>(rows);
      break;
    case ActivationFormat::kInt8:
      out.int8 = carver.take<std::int8_t>(rows * cols);
      out.int8_scale = carver.take<float>(rows * int8_scales(cols));
      break;
  }
  return out;
}

void ActivationRows::store(std::int64_t row, std::span<const float> values, float static_scale) const {
  switch (format) {
    case ActivationFormat::kBf16:
      std::transform(values.begin(), values.end(), &bf16[row * cols], bf16_from_float);
      break;
    case ActivationFormat::kNvfp4: {
      constexpr QuantRecipe kRecipe = QuantRecipe::kRne;
      const float global =
          static_scale > 0.0f ? static_scale : nvfp4_global_scale(kRecipe, nvfp4_amax(kRecipe, values));
      global_scale[row] = global;
      quantize_nvfp4_row(kRecipe, values, global, &codes[row * cols / 2], &sf[row * cols / kNvfp4Block]);
      break;
    }
    case ActivationFormat::kInt8:
      quantize_int8_row(values, &int8[row * cols], &int8_scale[row * int8_scales(cols)]);
      break;
  }
}

void ActivationRows::load(std::int64_t row, Operand& operand) const {
  switch (format) {
    case ActivationFormat::kBf16:
      operand.unpack_bf16(reinterpret_cast<const std::byte*>(&bf16[row * cols]));
      break;
    case ActivationFormat::kNvfp4:
      operand.unpack_nvfp4(reinterpret_cast<const std::byte*>(&codes[row * cols / 2]),
                           reinterpret_cast<const std::byte*>(&sf[row * cols / kNvfp4Block]), global_scale[row]);
      break;
    case ActivationFormat::kInt8:
      operand.unpack_int8(&int8[row * cols], &int8_scale[row * int8_scales(cols)]);
      break;
  }
}

Intermediate::Rows ActivationRows::copy(std::int64_t rows) const {
  Intermediate::Rows out;
  out.format = format;
  out.rows = rows;
  out.inter = cols;
  const auto copy_rows = [rows](const auto& from, std::int64_t row_size, auto& to) {
    if (!from.empty()) to.assign(from.begin(), from.begin() + rows * row_size);
  };
  copy_rows(bf16, cols, out.bf16);
  copy_rows(codes, cols / 2, out.codes);
  copy_rows(sf, cols / kNvfp4Block, out.sf);
  copy_rows(global_scale, 1, out.global_scale);
  copy_rows(int8, cols, out.int8);
  copy_rows(int8_scale, int8_scales(cols), out.int8_scale);
  return out;
}

}  // namespace megamoe::reference
