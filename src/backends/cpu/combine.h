// out[t] = sum over j ascending of weight[t, j] * y[row_of[t, j]], then + gate[t] * shared[t]; f32, fused
// multiply-adds, rounded once at the end.
#pragma once

#include <cstdint>
#include <span>

#include "backends/cpu/kernels.h"
#include "megamoe/moe.h"

namespace megamoe::cpu {

struct CombineInputs {
  std::int64_t hidden = 0;
  std::int64_t top_k = 0;
  std::span<const std::int64_t> row_of;  // [tokens, top_k], -1 = no row
  std::span<const float> y;              // [rows, hidden]
  std::span<const float> shared_y;       // [tokens, hidden], or empty
  std::span<const float> shared_gate;    // [tokens], or empty: 1
  bool weights_are_in_rows = false;      // TopkWeightPlace::kBeforeGemm2
};

inline constexpr std::int64_t kCombineColumns = 512;  // a step's sums: 2 KiB of stack

// Columns [begin, begin + kCombineColumns) of one token, cut at hidden.
void combine(const Kernels& kernels, const CombineInputs& in, const RunArgs& args, std::int64_t token,
             std::int64_t begin);

}  // namespace megamoe::cpu
