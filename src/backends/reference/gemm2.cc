#include <algorithm>

#include "backends/reference/stages.h"

namespace megamoe::reference {
namespace {

// What a row's bias is multiplied with: the top-k weight, where the rest of y has it already.
float bias_weight(const Call& call, const Rows& rows, std::int64_t row) {
  if (call.problem.topk_weight == TopkWeightPlace::kAfterGemm2 || &rows != &call.ws.routed) return 1.0f;
  return call.args.topk_weights[call.ws.choice_of[row]];
}

// At most kRowsAtOnce rows.
void run_expert(const Call& call, const Expert& expert, const Rows& rows, RowRange range) {
  Workspace& ws = call.ws;
  const std::int64_t count = range.end - range.begin;
  const std::int64_t hidden = call.problem.hidden;
  Operand a[kRowsAtOnce];
  for (std::int64_t r = 0; r < count; ++r) {
    a[r] = ws.a[r].first(rows.h.cols);
    rows.h.load(range.begin + r, a[r]);
  }
  Operand down = ws.w.first(rows.h.cols);
  for (std::int64_t n = 0; n < hidden; ++n) {
    expert.down.load(n, down);
    for (std::int64_t r = 0; r < count; ++r) {
      float& y = rows.y[(range.begin + r) * hidden + n];
      y = dot(a[r], down);
      if (!expert.down_bias.empty()) y += expert.down_bias[n] * bias_weight(call, rows, range.begin + r);
    }
  }
}

void run_rows(const Call& call, const Expert& expert, const Rows& rows, RowRange all) {
  for (std::int64_t begin = all.begin; begin < all.end; begin += kRowsAtOnce) {
    run_expert(call, expert, rows, {begin, std::min(begin + kRowsAtOnce, all.end)});
  }
}

}  // namespace

void gemm2(const Call& call) {
  for (std::int64_t e = 0; e < call.problem.experts; ++e) {
    run_rows(call, call.weights.experts()[e], call.ws.routed, call.rows_of(e));
  }
  if (call.problem.shared.inter > 0) run_rows(call, call.weights.shared(), call.ws.shared, {0, call.args.tokens});
}

}  // namespace megamoe::reference
