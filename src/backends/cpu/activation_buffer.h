// Rows of activations in the form the kernels read, carved from the workspace.
#pragma once

#include <cstdint>
#include <span>

#include "backends/cpu/kernels.h"
#include "base/arena.h"
#include "megamoe/moe.h"

namespace megamoe::cpu {

class ActivationBuffer {
 public:
  ActivationBuffer() = default;
  ActivationBuffer(Carver& carver, const Kernels& kernels, ActivationFormat format, std::int64_t rows, std::int64_t k);

  // Rounds a whole row [k] to the buffer's format.
  void store(std::int64_t row, std::span<const float> values);

  // The same for elements [begin, begin + values.size()) of a row; begin is a multiple of 64, and so is the size but
  // for a row's last part. Not for nvfp4, whose global scale needs the whole row.
  void store_part(std::int64_t row, std::int64_t begin, std::span<const float> values);

  ActivationRow row(std::int64_t row) const;
  float global_scale(std::int64_t row) const;  // 1 where the format has none

  // In canonical layout; `unrounded` are nvfp4's rows as they were stored, since the buffer keeps no codes.
  void copy_to(std::int64_t rows, std::span<const float> unrounded, Intermediate::Rows& out) const;

 private:
  void store_bf16(std::int64_t row, std::int64_t begin, std::span<const float> values);
  void pad(std::int64_t row);

  const Kernels* kernels_ = nullptr;
  ActivationFormat format_ = ActivationFormat::kBf16;
  std::int64_t k_ = 0;
  std::int64_t k_padded_ = 0;
  std::int64_t stride_ = 0;         // elements from row to row of q, wide or bf16
  std::int64_t scales_ = 0;         // per row
  std::int64_t parts_ = 0;          // of 64 elements, per row
  std::span<std::int8_t> q_;        // [rows, stride]       int8, nvfp4
  std::span<float> scale_;          // [rows, scales]       int8: per 64; nvfp4: sf / 2 per 16
  std::span<std::int32_t> offset_;  // [rows, k_padded/16]  int8, nvfp4
  std::span<float> global_scale_;   // [rows]               nvfp4
  std::span<float> wide_;           // [rows, stride]       bf16, widened
  std::span<std::uint16_t> bf16_;   // [rows, stride]       bf16, in the order of pairs
  std::span<std::uint8_t> tiny_;    // [rows, parts]        bf16 in pairs: whether a part has a value that is tiny
};

}  // namespace megamoe::cpu
