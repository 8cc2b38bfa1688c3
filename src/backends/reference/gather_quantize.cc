#include <algorithm>

#include "backends/reference/stages.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::reference {
namespace {

void store_token(const Call& call, std::int64_t token, const ActivationRows& x, std::int64_t row, float static_scale) {
  const auto hidden = static_cast<std::size_t>(call.problem.hidden);
  const auto bits = call.args.x.subspan(static_cast<std::size_t>(token) * hidden, hidden);
  const auto values = call.ws.values.first(hidden);
  std::transform(bits.begin(), bits.end(), values.begin(), bf16_to_float);
  x.store(row, values, static_scale);
}

}  // namespace

void gather_quantize(const Call& call) {
  for (std::int64_t e = 0; e < call.problem.experts; ++e) {
    const float static_scale = call.weights.experts()[static_cast<std::size_t>(e)].gate_up_input_scale;
    const RowRange rows = call.rows_of(e);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      const std::int64_t token = call.ws.choice_of[static_cast<std::size_t>(row)] / call.problem.top_k;
      store_token(call, token, call.ws.routed.x, row, static_scale);
    }
  }
  if (call.problem.shared.inter == 0) return;
  for (std::int64_t t = 0; t < call.args.tokens; ++t) {
    store_token(call, t, call.ws.shared.x, t, call.weights.shared().gate_up_input_scale);
  }
}

}  // namespace megamoe::reference
