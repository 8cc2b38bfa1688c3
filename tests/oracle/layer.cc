#include "oracle/layer.h"

#include <cstring>

#include "oracle/numbers.h"

namespace oracle {

std::vector<double> decode(const Matrix& matrix) {
  std::vector<double> values(static_cast<std::size_t>(matrix.rows * matrix.cols));
  for (std::int64_t i = 0; i < matrix.rows * matrix.cols; ++i) {
    double& value = values[static_cast<std::size_t>(i)];
    if (matrix.format == Weights::kBf16) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, matrix.data + 2 * i, 2);
      value = bf16(bits);
    } else {
      const unsigned byte = matrix.data[i / 2];
      value = e2m1(i % 2 == 0 ? byte & 15 : byte >> 4) * e4m3(matrix.sf[i / 16]) * matrix.global;
    }
  }
  return values;
}

std::vector<double> decode(const Rows& rows, std::int64_t row) {
  std::vector<double> values(static_cast<std::size_t>(rows.inter));
  const std::int64_t chunks = (rows.inter + 63) / 64;
  for (std::int64_t c = 0; c < rows.inter; ++c) {
    const auto i = static_cast<std::size_t>(row * rows.inter + c);
    double& value = values[static_cast<std::size_t>(c)];
    switch (rows.format) {
      case Activations::kBf16:
        value = bf16(rows.bf16[i]);
        break;
      case Activations::kNvfp4: {
        const unsigned byte = rows.codes[i / 2];
        value = e2m1(i % 2 == 0 ? byte & 15 : byte >> 4) * e4m3(rows.sf[i / 16]) *
                static_cast<double>(rows.global[static_cast<std::size_t>(row)]);
        break;
      }
      case Activations::kInt8:
        value = static_cast<double>(rows.int8[i]) *
                static_cast<double>(rows.int8_scale[static_cast<std::size_t>(row * chunks + c / 64)]);
        break;
    }
  }
  return values;
}

}  // namespace oracle
