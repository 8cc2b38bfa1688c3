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
  ActivationBuffer(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t k);

  // Rounds a whole row [k] to the buffer's format.
  void store(std::int64_t row, std::span<const float> values);

  // The same for elements [begin, begin + values.size()) of a row; begin is a multiple of 64, and so is the size but
  // for a row's last part. Not for nvfp4, whose global scale needs the whole row.
  void store_part(std::int64_t row, std::int64_t begin, std::span<const float> values);

  ActivationRow row(std::int64_t row) const;
  float global_scale(std::int64_t row) const;  // 1 where the format has none

  void copy_to(std::int64_t rows, Intermediate::Rows& out) const;

 private:
  void store_offsets(std::int64_t row, std::int64_t begin, std::int64_t count);
  void pad(std::int64_t row);

  ActivationFormat format_ = ActivationFormat::kBf16;
  std::int64_t k_ = 0;
  std::int64_t k_padded_ = 0;
  std::int64_t scales_ = 0;         // per row
  std::span<std::int8_t> q_;        // [rows, k_padded]     int8, nvfp4
  std::span<float> scale_;          // [rows, scales]       int8: per 64; nvfp4: sf / 2 per 16
  std::span<std::int32_t> offset_;  // [rows, k_padded/16]  int8, nvfp4
  std::span<std::uint8_t> codes_;   // [rows, k/2]          nvfp4, canonical
  std::span<std::uint8_t> sf_;      // [rows, k/16]         nvfp4, canonical
  std::span<float> global_scale_;   // [rows]               nvfp4
  std::span<float> wide_;           // [rows, k]            bf16, widened
};

}  // namespace megamoe::cpu
