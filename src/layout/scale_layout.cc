#include <algorithm>

#include "layout/size_check.h"
#include "megamoe/layout.h"

namespace megamoe {
namespace {

// One matrix, sizes already checked.
template <class Swizzle>
void swizzle_matrix(const std::uint8_t* linear, std::int64_t rows, std::int64_t cols, std::uint8_t* swizzled) {
  std::fill_n(swizzled, swizzled_bytes<Swizzle>(rows, cols), std::uint8_t{0});
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) swizzled[swizzled_offset<Swizzle>(r, c, cols)] = linear[r * cols + c];
}

template <class Swizzle>
void unswizzle_matrix(const std::uint8_t* swizzled, std::int64_t rows, std::int64_t cols, std::uint8_t* linear) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) linear[r * cols + c] = swizzled[swizzled_offset<Swizzle>(r, c, cols)];
}

// The experts of the activation side, each with its rows and its places in both layouts.
template <class Move>
void for_each_group(std::span<const std::int64_t> row_begin, std::int64_t cols, Move move) {
  std::int64_t begin_bytes = 0;
  for (std::size_t e = 0; e + 1 < row_begin.size(); ++e) {
    const std::int64_t rows = row_begin[e + 1] - row_begin[e];
    move(row_begin[e] * cols, rows, begin_bytes);
    begin_bytes += swizzled_bytes<Swizzle128x4>(rows, cols);
  }
}

void check_grouped(std::span<const std::int64_t> row_begin, std::int64_t cols, std::size_t linear_bytes,
                   std::size_t swizzled_size) {
  if (row_begin.empty() || row_begin.front() != 0 || !std::is_sorted(row_begin.begin(), row_begin.end()))
    throw Error(Code::kInvalidArgument, "layout: row_begin must start at 0 and never decrease");
  const auto experts = static_cast<std::int64_t>(row_begin.size()) - 1;
  require_layout_bytes("linear scales", linear_bytes, row_begin.back() * cols);
  require_layout_bytes("swizzled scales", swizzled_size, grouped_scales_begin(row_begin.data(), experts, cols));
}

void check_stacked(std::int64_t experts, std::int64_t rows, std::int64_t cols, std::size_t linear_bytes,
                   std::size_t swizzled_size) {
  require_layout_bytes("linear scales", linear_bytes, experts * rows * cols);
  require_layout_bytes("swizzled scales", swizzled_size, experts * swizzled_bytes<Swizzle128x4>(rows, cols));
}

}  // namespace

template <class Swizzle>
void swizzle_scales(std::span<const std::uint8_t> linear, std::int64_t rows, std::int64_t cols,
                    std::span<std::uint8_t> swizzled) {
  require_layout_bytes("linear scales", linear.size(), rows * cols);
  require_layout_bytes("swizzled scales", swizzled.size(), swizzled_bytes<Swizzle>(rows, cols));
  swizzle_matrix<Swizzle>(linear.data(), rows, cols, swizzled.data());
}

template <class Swizzle>
void unswizzle_scales(std::span<const std::uint8_t> swizzled, std::int64_t rows, std::int64_t cols,
                      std::span<std::uint8_t> linear) {
  require_layout_bytes("swizzled scales", swizzled.size(), swizzled_bytes<Swizzle>(rows, cols));
  require_layout_bytes("linear scales", linear.size(), rows * cols);
  unswizzle_matrix<Swizzle>(swizzled.data(), rows, cols, linear.data());
}

template void swizzle_scales<Swizzle128x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                           std::span<std::uint8_t>);
template void swizzle_scales<Swizzle8x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                         std::span<std::uint8_t>);
template void unswizzle_scales<Swizzle128x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                             std::span<std::uint8_t>);
template void unswizzle_scales<Swizzle8x4>(std::span<const std::uint8_t>, std::int64_t, std::int64_t,
                                           std::span<std::uint8_t>);

void swizzle_grouped_scales(std::span<const std::uint8_t> linear, std::span<const std::int64_t> row_begin,
                            std::int64_t cols, std::span<std::uint8_t> swizzled) {
  check_grouped(row_begin, cols, linear.size(), swizzled.size());
  for_each_group(row_begin, cols, [&](std::int64_t linear_begin, std::int64_t rows, std::int64_t swizzled_begin) {
    swizzle_matrix<Swizzle128x4>(linear.data() + linear_begin, rows, cols, swizzled.data() + swizzled_begin);
  });
}

void unswizzle_grouped_scales(std::span<const std::uint8_t> swizzled, std::span<const std::int64_t> row_begin,
                              std::int64_t cols, std::span<std::uint8_t> linear) {
  check_grouped(row_begin, cols, linear.size(), swizzled.size());
  for_each_group(row_begin, cols, [&](std::int64_t linear_begin, std::int64_t rows, std::int64_t swizzled_begin) {
    unswizzle_matrix<Swizzle128x4>(swizzled.data() + swizzled_begin, rows, cols, linear.data() + linear_begin);
  });
}

void swizzle_stacked_scales(std::span<const std::uint8_t> linear, std::int64_t experts, std::int64_t rows,
                            std::int64_t cols, std::span<std::uint8_t> swizzled) {
  check_stacked(experts, rows, cols, linear.size(), swizzled.size());
  for (std::int64_t e = 0; e < experts; ++e)
    swizzle_matrix<Swizzle128x4>(linear.data() + e * rows * cols, rows, cols,
                                 swizzled.data() + e * swizzled_bytes<Swizzle128x4>(rows, cols));
}

void unswizzle_stacked_scales(std::span<const std::uint8_t> swizzled, std::int64_t experts, std::int64_t rows,
                              std::int64_t cols, std::span<std::uint8_t> linear) {
  check_stacked(experts, rows, cols, linear.size(), swizzled.size());
  for (std::int64_t e = 0; e < experts; ++e)
    unswizzle_matrix<Swizzle128x4>(swizzled.data() + e * swizzled_bytes<Swizzle128x4>(rows, cols), rows, cols,
                                   linear.data() + e * rows * cols);
}

}  // namespace megamoe
