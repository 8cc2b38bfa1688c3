// middle[row, i] = round(activate(gate_i . x, up_i . x)): M = an expert's rows, N = 2 inter, K = hidden.

#include "backends/cpu/work.h"

namespace megamoe::cpu {
namespace {

void finish_row(const Work& work, const Item& item, std::int64_t row, std::span<const float> result) {
  if (work.h.empty())
    work.middle->store_part(row, item.column_begin, result);
  else
    std::copy(result.begin(), result.end(), work.h.begin() + row * work.bank->inter + item.column_begin);
}

}  // namespace

void gemm1_activation(const Kernels& kernels, const Activation& activation, const Work& work, const Item& item) {
  const ExpertBank& bank = *work.bank;
  const DotFunction dot = kernels.dot(bank.weights, bank.activations);
  const auto expert = static_cast<std::size_t>(item.expert);
  const float* gate_bias = bank.gate_bias.empty() ? nullptr : bank.gate_bias.data() + item.expert * bank.inter;
  const float* up_bias = bank.up_bias.empty() ? nullptr : bank.up_bias.data() + item.expert * bank.inter;

  for (std::int64_t row = item.row_begin; row < item.row_end; row += kRowTile) {
    const std::int64_t rows = std::min(kRowTile, item.row_end - row);
    ActivationRow activations[kRowTile];
    GateUp finish[kRowTile];
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t token = work.token_of(row + r);
      const float global_scale = work.x->global_scale(token);
      activations[r] = work.x->row(token);
      finish[r] = {.gate_scale = bank.gate_scale[expert] * global_scale,
                   .up_scale = bank.up_scale[expert] * global_scale,
                   .gate_bias = nullptr,
                   .up_bias = nullptr,
                   .row_weight = work.row_weight(row + r)};
    }
    const std::int64_t panels = (item.column_end - item.column_begin) / kPairLanes;
    float sums[kLongestItemPanels * kRowTile * kLanes];
    dot(bank.gate_up_panel(item.expert, item.column_begin / kPairLanes), bank.hidden, panels, activations, rows, sums);
    float result[kRowTile][kLongestItemPanels * kPairLanes];
    for (std::int64_t p = 0; p < panels; ++p) {
      const std::int64_t column = item.column_begin + p * kPairLanes;
      for (std::int64_t r = 0; r < rows; ++r) {
        if (gate_bias != nullptr) {
          finish[r].gate_bias = gate_bias + column;
          finish[r].up_bias = up_bias + column;
        }
        kernels.gate_up(activation, finish[r], sums + (p * rows + r) * kLanes, result[r] + p * kPairLanes);
      }
    }
    for (std::int64_t r = 0; r < rows; ++r)
      finish_row(work, item, row + r, {result[r], static_cast<std::size_t>(item.column_end - item.column_begin)});
  }
}

}  // namespace megamoe::cpu
