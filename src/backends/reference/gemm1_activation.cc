#include <algorithm>

#include "backends/reference/stages.h"
#include "moe/activation_math.h"

namespace megamoe::reference {
namespace {

float bias_at(std::span<const float> bias, std::int64_t i) {
  return bias.empty() ? 0.0f : bias[static_cast<std::size_t>(i)];
}

// At most kRowsAtOnce rows. row_weights has one factor a row, or is empty.
void run_expert(const Call& call, const Expert& expert, const Rows& rows, RowRange range,
                std::span<const float> row_weights) {
  Workspace& ws = call.ws;
  const std::int64_t count = range.end - range.begin;
  const std::int64_t inter = rows.h.cols;
  Operand a[kRowsAtOnce];
  for (std::int64_t r = 0; r < count; ++r) {
    a[r] = ws.a[r].first(call.problem.hidden);
    rows.x.load(range.begin + r, a[r]);
  }
  Operand gate = ws.w.first(call.problem.hidden);
  Operand up = ws.w2.first(call.problem.hidden);
  for (std::int64_t i = 0; i < inter; ++i) {
    expert.gate.load(i, gate);
    expert.up.load(i, up);
    for (std::int64_t r = 0; r < count; ++r) {
      const float g = dot(a[r], gate) + bias_at(expert.gate_bias, i);
      const float u = dot(a[r], up) + bias_at(expert.up_bias, i);
      const float h = activate(call.problem.activation, g, u);
      ws.values[r * inter + i] = row_weights.empty() ? h : h * row_weights[r];
    }
  }
  for (std::int64_t r = 0; r < count; ++r) {
    const auto values = ws.values.subspan(static_cast<std::size_t>(r * inter), static_cast<std::size_t>(inter));
    rows.h.store(range.begin + r, values, expert.down_input_scale);
  }
}

}  // namespace

void gemm1_activation(const Call& call) {
  const bool weighted = call.problem.topk_weight == TopkWeightPlace::kBeforeGemm2;
  float row_weights[kRowsAtOnce];
  for (std::int64_t e = 0; e < call.problem.experts; ++e) {
    const RowRange rows = call.rows_of(e);
    for (std::int64_t begin = rows.begin; begin < rows.end; begin += kRowsAtOnce) {
      const RowRange range{begin, std::min(begin + kRowsAtOnce, rows.end)};
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        row_weights[row - begin] = call.args.topk_weights[call.ws.choice_of[row]];
      }
      run_expert(call, call.weights.experts()[e], call.ws.routed, range,
                 std::span<const float>(row_weights).first(weighted ? kRowsAtOnce : 0));
    }
  }
  if (call.problem.shared.inter == 0) return;
  for (std::int64_t begin = 0; begin < call.args.tokens; begin += kRowsAtOnce) {
    const RowRange range{begin, std::min(begin + kRowsAtOnce, call.args.tokens)};
    run_expert(call, call.weights.shared(), call.ws.shared, range, {});
  }
}

}  // namespace megamoe::reference
