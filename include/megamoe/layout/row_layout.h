// Which rows belong to which expert, once rows are ordered by expert.
//
//   row_begin [experts + 1]  i64  exclusive prefix sum: expert e owns rows [row_begin[e], row_begin[e + 1])
//   row_end   [experts]      i32  the same boundaries as grouped-GEMM interfaces want them: cumulative END offsets,
//                                 row_end[e] = row_begin[e + 1]
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "megamoe/error.h"

namespace megamoe {

// rows [experts]: how many rows each expert has. Throws kInvalidArgument, before writing, for a negative count, for a
// sum beyond int64, or when row_begin does not have experts + 1 elements.
inline void row_begin_from_counts(std::span<const std::int64_t> rows, std::span<std::int64_t> row_begin) {
  if (row_begin.size() != rows.size() + 1)
    throw Error(Code::kInvalidArgument, "row_begin has ", row_begin.size(), " elements, expected ", rows.size() + 1);
  std::int64_t room = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t count : rows) {
    if (count < 0 || count > room)
      throw Error(Code::kInvalidArgument, "rows of an expert: found ", count, ", accepted: 0 to ", room);
    room -= count;
  }
  row_begin[0] = 0;
  for (std::size_t e = 0; e < rows.size(); ++e) row_begin[e + 1] = row_begin[e] + rows[e];
}

// Throws kInvalidArgument, before writing, when the last row does not fit int32 (2^31 - 1 rows do) or the sizes
// disagree.
inline void row_end_from_row_begin(std::span<const std::int64_t> row_begin, std::span<std::int32_t> row_end) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  if (row_begin.size() != row_end.size() + 1)
    throw Error(Code::kInvalidArgument, "row_begin has ", row_begin.size(), " elements, expected ", row_end.size() + 1);
  if (row_begin.back() > kMax)
    throw Error(Code::kInvalidArgument, "32-bit expert offsets: asked ", row_begin.back(), " rows, accepted: at most ",
                kMax);
  for (std::size_t e = 0; e < row_end.size(); ++e) row_end[e] = static_cast<std::int32_t>(row_begin[e + 1]);
}

}  // namespace megamoe
