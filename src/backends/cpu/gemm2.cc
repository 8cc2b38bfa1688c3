// y[row, h] = down_h . middle[row]: M = an expert's rows, N = hidden, K = inter.

#include "backends/cpu/work.h"

namespace megamoe::cpu {

void gemm2(const Kernels& kernels, const Work& work, const Item& item) {
  const ExpertBank& bank = *work.bank;
  const DotFunction dot = kernels.dot(bank.weights, bank.activations);
  const float weight_scale = bank.down_scale[static_cast<std::size_t>(item.expert)];
  // A bias meets the row's weight here; the rest of y has it already.
  const float* bias = bank.down_bias.empty() ? nullptr : bank.down_bias.data() + item.expert * bank.hidden;

  for (std::int64_t row = item.row_begin; row < item.row_end; row += kRowTile) {
    const std::int64_t rows = std::min(kRowTile, item.row_end - row);
    ActivationRow activations[kRowTile];
    for (std::int64_t r = 0; r < rows; ++r) activations[r] = work.middle->row(row + r);
    const std::int64_t panels = ceil_div(item.column_end - item.column_begin, kLanes);
    float sums[kLongestItemPanels * kRowTile * kLanes];
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t column = item.column_begin; column < item.column_end; column += 16)
        __builtin_prefetch(work.y.data() + (row + r) * bank.hidden + column, 1);
    dot(bank.down_panel(item.expert, item.column_begin / kLanes), bank.inter, panels, activations, rows, sums);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float scale = weight_scale * work.middle->global_scale(row + r);
      const float row_weight = work.row_weight(row + r);
      for (std::int64_t p = 0; p < panels; ++p) {
        const std::int64_t column = item.column_begin + p * kLanes;
        const std::int64_t lanes = std::min(kLanes, item.column_end - column);  // hidden may end inside a group
        kernels.scale(sums + (p * rows + r) * kLanes, scale, bias == nullptr ? nullptr : bias + column, row_weight,
                      lanes, work.y.data() + (row + r) * bank.hidden + column);
      }
    }
  }
}

}  // namespace megamoe::cpu
