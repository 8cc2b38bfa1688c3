#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/reference/stages.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/routing.h"
#include "moe/activation_math.h"

namespace megamoe::reference {
namespace {

// sigmoid(x . gate_vector), the sum in f32 and in ascending order; 1 where nothing is gated.
float shared_factor(const Call& call, std::int64_t token) {
  const auto gate = call.weights.shared_gate();
  if (gate.empty()) return 1.0f;
  float sum = 0.0f;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    sum += bf16_to_float(call.args.x[static_cast<std::size_t>(token) * gate.size() + i]) * gate[i];
  }
  return sigmoid(sum);
}

void add_routed(const Call& call, std::int64_t choice, std::span<float> sum) {
  const std::int64_t row = call.ws.row_of[static_cast<std::size_t>(choice)];
  if (row < 0) return;  // whatever its weight is, NaN too
  const bool weighted = call.problem.topk_weight == TopkWeightPlace::kAfterGemm2;
  const float weight = call.args.topk_weights[static_cast<std::size_t>(choice)];
  const auto y = call.ws.routed.y.subspan(static_cast<std::size_t>(row) * sum.size(), sum.size());
  for (std::size_t n = 0; n < sum.size(); ++n) sum[n] = weighted ? std::fma(weight, y[n], sum[n]) : sum[n] + y[n];
}

void add_shared(const Call& call, std::int64_t token, std::span<float> sum) {
  const float factor = shared_factor(call, token);
  const auto y = call.ws.shared.y.subspan(static_cast<std::size_t>(token) * sum.size(), sum.size());
  for (std::size_t n = 0; n < sum.size(); ++n) sum[n] = std::fma(factor, y[n], sum[n]);
}

void write(const Call& call, std::int64_t token, std::span<const float> sum) {
  const auto begin = static_cast<std::ptrdiff_t>(token * call.problem.hidden);
  if (call.args.output_f32.empty())
    std::transform(sum.begin(), sum.end(), call.args.output.begin() + begin, bf16_from_float);
  else
    std::copy(sum.begin(), sum.end(), call.args.output_f32.begin() + begin);
}

}  // namespace

void combine(const Call& call) {
  const std::int64_t top_k = call.problem.top_k;
  const auto sum = call.ws.values.first(static_cast<std::size_t>(call.problem.hidden));
  for (std::int64_t t = 0; t < call.args.tokens; ++t) {
    const auto ids = call.args.topk_ids.subspan(static_cast<std::size_t>(t * top_k), static_cast<std::size_t>(top_k));
    const bool poisoned = std::find(ids.begin(), ids.end(), kPoisonedExpert) != ids.end();
    std::fill(sum.begin(), sum.end(), poisoned ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
    for (std::int64_t j = 0; j < top_k; ++j) add_routed(call, t * top_k + j, sum);
    if (call.problem.shared.inter > 0) add_shared(call, t, sum);
    write(call, t, sum);
  }
}

}  // namespace megamoe::reference
