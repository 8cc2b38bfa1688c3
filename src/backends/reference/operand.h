// One row of either side of a GEMM, unpacked to f32, and the one dot product of the reference.
//
//   value[k] = elements[k] * block_scale[k / 16] * group_scale[k / 64] * row_scale
//
//   format              elements     block_scale  group_scale          row_scale
//   bf16                the values   1            1                    1
//   nvfp4               E2M1 values  E4M3         1                    the global scale
//   int8 (activations)  integers     1            the scale per 64     1
#pragma once

#include <cstdint>
#include <span>

#include "base/arena.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"

namespace megamoe::reference {

struct Operand {
  std::span<float> elements;     // [cols]
  std::span<float> block_scale;  // [cols / 16]
  std::span<float> group_scale;  // [ceil(cols / 64)]
  float row_scale = 1.0f;

  static Operand take(Carver& carver, std::int64_t max_cols);
  // The same memory for rows of `cols` elements.
  Operand first(std::int64_t cols) const;

  void unpack_bf16(const std::byte* bits);  // [cols] u16 of any alignment
  void unpack_nvfp4(const std::byte* codes, const std::byte* sf, float global_scale);
  void unpack_int8(const std::int8_t* q, const float* scales);
};

// a . w in f32, everything in ascending k:
//   block  = sum of the 16 a.elements * w.elements   exact for nvfp4 and int8 against nvfp4
//   group  = sum of the 4 block * (a.block_scale * w.block_scale)
//   sum    = sum of all group * a.group_scale
//   result = sum * (a.row_scale * w.row_scale)
// The group scales of w are 1: weights are never int8.
float dot(const Operand& a, const Operand& w);

}  // namespace megamoe::reference
