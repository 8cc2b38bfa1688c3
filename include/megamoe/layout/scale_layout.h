// Where block-scaled tensor-core kernels look for the scale of (row, column): the swizzled layouts, as formulas.
//
// A linear scale matrix is [rows, cols] row-major, cols = K / 16 for NVFP4. A swizzled one is cut into atoms, padded at
// the ends, atoms ordered along columns first, then along rows. The padding is part of the layout and is zero.
//
//   128x4 (PTX ISA scale_vec::4X; cuBLAS VEC16 scaling factors): one atom is 128 rows x 4 columns, 512 bytes,
//     offset(r, c) = ((r / 128) * atoms_across + c / 4) * 512 + (r % 32) * 16 + ((r % 128) / 32) * 4 + c % 4
//   8x4 (few activation rows): one atom is 8 rows x 4 columns, 32 bytes,
//     offset(r, c) = ((r / 8) * atoms_across + c / 4) * 32 + (r % 8) * 4 + c % 4
//
//   atoms_across = ceil(cols / 4)
//
// Both are bijections between the padded matrix and [0, bytes).
#pragma once

#include <cstdint>

#include "megamoe/host_device.h"

namespace megamoe {

struct ScalePosition {
  std::int64_t row;
  std::int64_t col;

  friend constexpr bool operator==(const ScalePosition&, const ScalePosition&) = default;
};

inline constexpr std::int64_t kScaleAtomCols = 4;

MEGAMOE_HD constexpr std::int64_t pad_to(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Rows of an atom are a property of the layout; everything else of a swizzle follows from where a row lies in its atom.
struct Swizzle128x4 {
  static constexpr std::int64_t kAtomRows = 128;

  // Rows r, r + 32, r + 64, r + 96 share 16 consecutive bytes.
  MEGAMOE_HD static constexpr std::int64_t row_offset(std::int64_t row_in_atom) {
    return row_in_atom % 32 * 16 + row_in_atom / 32 * kScaleAtomCols;
  }
  MEGAMOE_HD static constexpr std::int64_t row_at(std::int64_t offset_in_atom) {
    return offset_in_atom / 16 + offset_in_atom % 16 / kScaleAtomCols * 32;
  }
};

struct Swizzle8x4 {
  static constexpr std::int64_t kAtomRows = 8;

  MEGAMOE_HD static constexpr std::int64_t row_offset(std::int64_t row_in_atom) { return row_in_atom * kScaleAtomCols; }
  MEGAMOE_HD static constexpr std::int64_t row_at(std::int64_t offset_in_atom) {
    return offset_in_atom / kScaleAtomCols;
  }
};

// Bytes of a swizzled [rows, cols] matrix, padding included.
template <class Swizzle>
MEGAMOE_HD constexpr std::int64_t swizzled_bytes(std::int64_t rows, std::int64_t cols) {
  return pad_to(rows, Swizzle::kAtomRows) * pad_to(cols, kScaleAtomCols);
}

// Byte offset of the scale of (row, col) in a matrix of `cols` columns.
template <class Swizzle>
MEGAMOE_HD constexpr std::int64_t swizzled_offset(std::int64_t row, std::int64_t col, std::int64_t cols) {
  const std::int64_t atoms_across = (cols + kScaleAtomCols - 1) / kScaleAtomCols;
  const std::int64_t atom = row / Swizzle::kAtomRows * atoms_across + col / kScaleAtomCols;
  return atom * (Swizzle::kAtomRows * kScaleAtomCols) + Swizzle::row_offset(row % Swizzle::kAtomRows) +
         col % kScaleAtomCols;
}

// The inverse: which (row, col) of the padded matrix a byte belongs to.
template <class Swizzle>
MEGAMOE_HD constexpr ScalePosition swizzled_position(std::int64_t offset, std::int64_t cols) {
  constexpr std::int64_t kAtomBytes = Swizzle::kAtomRows * kScaleAtomCols;
  const std::int64_t atoms_across = (cols + kScaleAtomCols - 1) / kScaleAtomCols;
  const std::int64_t atom = offset / kAtomBytes;
  const std::int64_t in_atom = offset % kAtomBytes;
  return {atom / atoms_across * Swizzle::kAtomRows + Swizzle::row_at(in_atom),
          atom % atoms_across * kScaleAtomCols + in_atom % kScaleAtomCols};
}

// Bytes of the activation side of a grouped GEMM before expert e, when each expert's rows are padded to whole atoms and
// the experts are concatenated: sum over i < e of pad_to(rows_i, 128) * pad_to(cols, 4). row_begin [e + 1] is the
// exclusive prefix sum of the experts' rows (row_layout.h). With e = experts it is the size of the whole.
MEGAMOE_HD constexpr std::int64_t grouped_scales_begin(const std::int64_t* row_begin, std::int64_t expert,
                                                       std::int64_t cols) {
  std::int64_t bytes = 0;
  for (std::int64_t i = 0; i < expert; ++i)
    bytes += swizzled_bytes<Swizzle128x4>(row_begin[i + 1] - row_begin[i], cols);
  return bytes;
}

}  // namespace megamoe
