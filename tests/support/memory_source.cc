#include "support/memory_source.h"

#include <cstring>

namespace megamoe::test {

OwnedMatrix OwnedMatrix::zeros(WeightFormat format, std::int64_t rows, std::int64_t cols) {
  OwnedMatrix matrix{.format = format, .rows = rows, .cols = cols};
  const auto elements = static_cast<std::size_t>(rows * cols);
  if (format == WeightFormat::kBf16) {
    matrix.data.resize(2 * elements);
  } else {
    matrix.data.resize(elements / 2);
    matrix.sf.resize(elements / 16);
  }
  return matrix;
}

void OwnedMatrix::set_code(std::int64_t row, std::int64_t col, unsigned code) {
  const std::int64_t i = row * cols + col;
  std::byte& both = data[static_cast<std::size_t>(i / 2)];
  const int shift = i % 2 == 0 ? 0 : 4;
  both = (both & ~(std::byte{15} << shift)) | (static_cast<std::byte>(code & 15u) << shift);
}

void OwnedMatrix::set_scale(std::int64_t row, std::int64_t col, unsigned e4m3) {
  sf[static_cast<std::size_t>((row * cols + col) / 16)] = static_cast<std::byte>(e4m3);
}

void OwnedMatrix::set_bf16(std::int64_t row, std::int64_t col, std::uint16_t bits) {
  std::memcpy(&data[static_cast<std::size_t>(2 * (row * cols + col))], &bits, sizeof bits);
}

MatrixView OwnedMatrix::view() const {
  return {.format = format,
          .rows = rows,
          .cols = cols,
          .data = data.data(),
          .sf = sf.empty() ? nullptr : sf.data(),
          .global_scale = global_scale};
}

ExpertView OwnedExpert::view() const {
  return {.gate = gate.view(),
          .up = up.view(),
          .down = down.view(),
          .gate_bias = gate_bias,
          .up_bias = up_bias,
          .down_bias = down_bias,
          .gate_up_input_scale = gate_up_input_scale,
          .down_input_scale = down_input_scale};
}

ExpertView MemorySource::expert(std::int64_t index, ExpertScratch& /*scratch*/) const {
  return experts.at(static_cast<std::size_t>(index)).view();
}

ExpertView MemorySource::shared_expert(ExpertScratch& /*scratch*/) const { return shared.view(); }

}  // namespace megamoe::test
