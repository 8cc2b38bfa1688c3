// Rows of activations in one format: what the first GEMM reads, and what the second does.
#pragma once

#include <cstdint>
#include <span>

#include "backends/reference/operand.h"
#include "base/arena.h"
#include "megamoe/moe.h"

namespace megamoe::reference {

// Only the arrays of the format are there; their layouts are those of Intermediate::Rows.
struct ActivationRows {
  ActivationFormat format = ActivationFormat::kBf16;
  std::int64_t cols = 0;
  std::span<std::uint16_t> bf16;  // [rows, cols]
  std::span<std::uint8_t> codes;  // [rows, cols/2]
  std::span<std::uint8_t> sf;     // [rows, cols/16]
  std::span<float> global_scale;  // [rows]
  std::span<std::int8_t> int8;    // [rows, cols]
  std::span<float> int8_scale;    // [rows, ceil(cols/64)]

  static ActivationRows take(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t cols);

  // Rounds values [cols] to the format, once. nvfp4: with the given global scale, or with the row's own where
  // static_scale is 0.
  void store(std::int64_t row, std::span<const float> values, float static_scale) const;
  void load(std::int64_t row, Operand& operand) const;
  // The first `rows` rows, for the caller's tests.
  Intermediate::Rows copy(std::int64_t rows) const;
};

}  // namespace megamoe::reference
