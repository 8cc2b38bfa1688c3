#include "oracle/gemm1.h"

#include <cmath>

#include "oracle/numbers.h"
#include "oracle/quantise.h"

namespace oracle {
namespace {

// x . (one row of weights) + bias, with its bound.
Bounded dot(const std::vector<double>& x, const double* w, double bias) {
  const std::size_t k = x.size();
  const double* a = x.data();
  double sum = 0.0, magnitude = 0.0;
#pragma omp simd reduction(+ : sum, magnitude)
  for (std::size_t c = 0; c < k; ++c) {
    const double product = a[c] * w[c];
    sum += product;
    magnitude += std::fabs(product);
  }
  double bound = (static_cast<double>(k) + 8) * kUnit * magnitude + 1e-36;
  if (bias != 0.0) bound += kUnit * (std::fabs(sum + bias) + std::fabs(bias));
  return {sum + bias, bound};
}

bool is_finite(std::span<const double> x) {
  for (const double value : x)
    if (!std::isfinite(value)) return false;
  return true;
}

struct DecodedExpert {
  std::vector<double> gate, up;
};

ExpectedRow expected_row(const Layer& layer, const Expert& expert, const DecodedExpert& decoded, Activations format,
                         std::int64_t inter, std::span<const double> x, double weight) {
  ExpectedRow row;
  row.exists = true;
  row.finite = is_finite(x);
  if (!row.finite) return row;
  const std::vector<double> a = quantise(format, x, layer.static_scale ? expert.gate_up_input_scale : 0.0);
  for (std::int64_t i = 0; i < inter; ++i) {
    const auto n = static_cast<std::size_t>(i);
    const auto at = n * x.size();
    const double gate_bias = expert.gate_bias.empty() ? 0.0 : static_cast<double>(expert.gate_bias[n]);
    const double up_bias = expert.up_bias.empty() ? 0.0 : static_cast<double>(expert.up_bias[n]);
    Bounded h = activate(layer, dot(a, &decoded.gate[at], gate_bias), dot(a, &decoded.up[at], up_bias));
    if (weight != 1.0) {
      h.value *= weight;
      h.half = h.half * std::fabs(weight) + kUnit * std::fabs(h.value);
    }
    row.values.push_back(h);
  }
  return row;
}

}  // namespace

Expected gemm1(const Layer& layer, const Batch& batch) {
  std::vector<double> x;
  for (const std::uint16_t bits : batch.x) x.push_back(bf16(bits));
  const auto row_of_x = [&](std::int64_t token) {
    return std::span<const double>(x).subspan(static_cast<std::size_t>(token * layer.hidden),
                                              static_cast<std::size_t>(layer.hidden));
  };

  Expected expected;
  expected.routed.resize(batch.ids.size());
  for (std::size_t e = 0; e < layer.experts.size(); ++e) {
    DecodedExpert decoded;  // decoded only where a token goes there
    for (std::size_t choice = 0; choice < batch.ids.size(); ++choice) {
      if (batch.ids[choice] < 0 || static_cast<std::size_t>(batch.ids[choice]) != e) continue;
      if (decoded.gate.empty()) decoded = {decode(layer.experts[e].gate), decode(layer.experts[e].up)};
      const double weight = layer.weight_before_gemm2 ? static_cast<double>(batch.weights[choice]) : 1.0;
      const auto token = static_cast<std::int64_t>(choice) / layer.top_k;
      expected.routed[choice] =
          expected_row(layer, layer.experts[e], decoded, layer.activations, layer.inter, row_of_x(token), weight);
    }
  }
  if (layer.shared_inter > 0) {
    const DecodedExpert decoded{decode(layer.shared.gate), decode(layer.shared.up)};
    for (std::int64_t t = 0; t < batch.tokens; ++t)
      expected.shared.push_back(
          expected_row(layer, layer.shared, decoded, layer.shared_activations, layer.shared_inter, row_of_x(t), 1.0));
  }
  return expected;
}

}  // namespace oracle
