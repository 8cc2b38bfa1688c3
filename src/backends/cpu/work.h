// One call's rows of one bank of experts, and how they are cut into items for threads. The routed experts are one such
// piece of work, the shared expert another: its rows are the tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "backends/cpu/activation_buffer.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/pack.h"

namespace megamoe::cpu {

// An item is some output columns of one expert for at most 256 of its rows, which cut an expert that took most tokens
// into pieces for many threads. Four panels of GEMM1 are 64 columns, a block of int8 activations, so that it can round
// what it made. Of few rows, memory sets the time and short items even out the threads; of more, the first panel of an
// item, whose decoding nothing hides, and what surrounds a call of a kernel ask for longer ones: the longest where each
// thread still has many.
inline constexpr std::int64_t kItemPanels = 4;
inline constexpr std::int64_t kLongItemPanels = 8;
inline constexpr std::int64_t kLongestItemPanels = 16;
inline constexpr std::int64_t kRowsOfLongItems = 4;  // an expert, in the mean
inline constexpr std::int64_t kItemsOfThread = 32;   // of the longest ones
inline constexpr std::int64_t kItemRows = 256;

// Rows that a kernel call takes at once: it decodes bf16 panels once for all of them. A thread's stack holds their
// results, 288 KiB.
inline constexpr std::int64_t kRowTile = 96;

struct Work {
  const ExpertBank* bank = nullptr;
  std::span<const std::int64_t> row_begin;  // [experts + 1]
  std::span<const std::int64_t> choice_of;  // [rows] flat choice of each row; empty: row r is token r
  std::int64_t top_k = 1;
  std::span<const float> row_weight_of_choice;  // multiplied in before GEMM2; empty: not here
  const ActivationBuffer* x = nullptr;          // by token
  ActivationBuffer* middle = nullptr;           // by row
  std::span<float> h;                           // [rows, inter] unrounded, only for nvfp4
  std::span<float> y;                           // [rows, hidden]

  std::int64_t rows() const { return row_begin.back(); }
  std::int64_t token_of(std::int64_t row) const {
    return choice_of.empty() ? row : choice_of[static_cast<std::size_t>(row)] / top_k;
  }
  float row_weight(std::int64_t row) const {
    return row_weight_of_choice.empty()
               ? 1.0f
               : row_weight_of_choice[static_cast<std::size_t>(choice_of[static_cast<std::size_t>(row)])];
  }
};

struct Item {
  std::int64_t expert;
  std::int64_t column_begin, column_end;
  std::int64_t row_begin, row_end;
};

// The items of one GEMM: experts ascending, then row pieces, then columns, so that neighbours in this order read
// neighbouring weights. `first` [experts + 1] counts the items before each expert; it lives in the workspace.
class Items {
 public:
  // `columns` of the output, of which a panel has `panel_columns`.
  Items(const Work& work, std::int64_t columns, std::int64_t panel_columns, int threads, std::span<std::int64_t> first)
      : row_begin_(work.row_begin), columns_(columns), first_(first) {
    const auto experts = static_cast<std::int64_t>(row_begin_.size()) - 1;
    const bool are_long = work.rows() > kRowsOfLongItems * experts;
    cut((are_long ? kLongestItemPanels : kItemPanels) * panel_columns);
    if (are_long && count() < kItemsOfThread * threads) cut(kLongItemPanels * panel_columns);
  }

  std::int64_t count() const { return first_.back(); }

  Item operator[](std::int64_t index) const {
    const auto after = std::upper_bound(first_.begin(), first_.end(), index);
    const auto expert = static_cast<std::size_t>(after - first_.begin() - 1);
    const std::int64_t in_expert = index - first_[expert];
    const std::int64_t per_piece = ceil_div(columns_, item_columns_);
    const std::int64_t column = in_expert % per_piece * item_columns_;
    const std::int64_t row = row_begin_[expert] + in_expert / per_piece * kItemRows;
    return {static_cast<std::int64_t>(expert), column, std::min(column + item_columns_, columns_), row,
            std::min(row + kItemRows, row_begin_[expert + 1])};
  }

 private:
  void cut(std::int64_t item_columns) {
    item_columns_ = item_columns;
    first_[0] = 0;
    for (std::size_t e = 0; e + 1 < row_begin_.size(); ++e)
      first_[e + 1] =
          first_[e] + ceil_div(row_begin_[e + 1] - row_begin_[e], kItemRows) * ceil_div(columns_, item_columns_);
  }

  std::span<const std::int64_t> row_begin_;
  std::int64_t columns_;
  std::int64_t item_columns_ = 0;
  std::span<std::int64_t> first_;
};

// GEMM1 + activation + rounding: middle[row] (or h[row], where rounding needs the whole row) for an item's channels.
void gemm1_activation(const Kernels& kernels, const Activation& activation, const Work& work, const Item& item);

// GEMM2: y[row] for an item's features.
void gemm2(const Kernels& kernels, const Work& work, const Item& item);

}  // namespace megamoe::cpu
