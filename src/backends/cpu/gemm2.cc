// y[row, h] = down_h . middle[row]: M = an expert's rows, N = hidden, K = inter.

#include "backends/cpu/work.h"

namespace megamoe::cpu {

void gemm2(const Kernels& kernels, const Work& work, const Item& item) {
  const ExpertBank& bank = *work.bank;
  const DotFunction dot = kernels.dot(bank.weights, bank.activations);
  const float weight_scale = bank.down_scale[static_cast<std::size_t>(item.expert)];
  const float* bias = bank.down_bias.empty() ? nullptr : bank.down_bias.data() + item.expert * bank.hidden;

  for (std::int64_t row = item.row_begin; row < item.row_end; row += kRowTile) {
    const std::int64_t rows = std::min(kRowTile, item.row_end - row);
    ActivationRow activations[kRowTile];
    for (std::int64_t r = 0; r < rows; ++r) activations[r] = work.middle->row(row + r);
    for (std::int64_t column = item.column_begin; column < item.column_end; column += kLanes) {
      float sums[kRowTile * kLanes];
      dot(bank.down_panel(item.expert, column / kLanes), bank.inter, activations, rows, sums);
      const std::int64_t lanes = std::min(kLanes, item.column_end - column);  // hidden may end inside a group
      for (std::int64_t r = 0; r < rows; ++r) {
        const float scale = weight_scale * work.middle->global_scale(row + r);
        float* y = work.y.data() + (row + r) * bank.hidden + column;
        for (std::int64_t lane = 0; lane < lanes; ++lane) y[lane] = sums[r * kLanes + lane] * scale;
        if (bias == nullptr) continue;
        const float row_weight = work.row_weight(row + r);  // the rest of y has it already
        for (std::int64_t lane = 0; lane < lanes; ++lane) y[lane] += bias[column + lane] * row_weight;
      }
    }
  }
}

}  // namespace megamoe::cpu
