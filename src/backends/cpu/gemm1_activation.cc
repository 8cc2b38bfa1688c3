// middle[row, i] = round(activate(gate_i . x, up_i . x)): M = an expert's rows, N = 2 inter, K = hidden.

#include "backends/cpu/work.h"

namespace megamoe::cpu {
namespace {

using Tile = float[kRowTile][kItemColumns];

// Scales and biases a group's sums: lanes 0-15 are the gates of its channels, 16-31 their ups.
void spread_group(const float* sums, float gate_scale, float up_scale, const float* gate_bias, const float* up_bias,
                  float* gate, float* up) {
  for (std::int64_t lane = 0; lane < kPairLanes; ++lane) {
    gate[lane] = sums[lane] * gate_scale;
    up[lane] = sums[kPairLanes + lane] * up_scale;
  }
  if (gate_bias == nullptr) return;
  for (std::int64_t lane = 0; lane < kPairLanes; ++lane) {
    gate[lane] += gate_bias[lane];
    up[lane] += up_bias[lane];
  }
}

void finish_row(const Kernels& kernels, const Activation& activation, const Work& work, const Item& item,
                std::int64_t row, const float* gate, const float* up) {
  const std::int64_t columns = item.column_end - item.column_begin;
  float result[kItemColumns];
  kernels.activate(activation, gate, up, columns, result);
  if (!work.row_weight_of_choice.empty()) {
    const float weight = work.row_weight(row);
    for (std::int64_t i = 0; i < columns; ++i) result[i] *= weight;
  }
  if (work.h.empty())
    work.middle->store_part(row, item.column_begin, {result, static_cast<std::size_t>(columns)});
  else
    std::copy(result, result + columns, work.h.begin() + row * work.bank->inter + item.column_begin);
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
    float global_scale[kRowTile];
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t token = work.token_of(row + r);
      activations[r] = work.x->row(token);
      global_scale[r] = work.x->global_scale(token);
    }
    Tile gate;
    Tile up;
    for (std::int64_t column = item.column_begin; column < item.column_end; column += kPairLanes) {
      float sums[kRowTile * kLanes];
      dot(bank.gate_up_panel(item.expert, column / kPairLanes), bank.hidden, activations, rows, sums);
      const std::int64_t at = column - item.column_begin;
      for (std::int64_t r = 0; r < rows; ++r)
        spread_group(sums + r * kLanes, bank.gate_scale[expert] * global_scale[r],
                     bank.up_scale[expert] * global_scale[r], gate_bias ? gate_bias + column : nullptr,
                     up_bias ? up_bias + column : nullptr, gate[r] + at, up[r] + at);
    }
    for (std::int64_t r = 0; r < rows; ++r) finish_row(kernels, activation, work, item, row + r, gate[r], up[r]);
  }
}

}  // namespace megamoe::cpu
