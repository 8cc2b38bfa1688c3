#include "oracle/check_output.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "oracle/activation.h"
#include "oracle/numbers.h"

namespace oracle {
namespace {

constexpr double kBf16Unit = 0x1p-8;  // half a step of 8 significant bits

// A sum of products and the sum of their magnitudes.
struct Sum {
  double value = 0.0;
  double magnitude = 0.0;
};

Sum dot(const std::vector<double>& h, const double* w) {
  Sum sum;
  double value = 0.0, magnitude = 0.0;
  const double* a = h.data();
  const std::size_t k = h.size();
#pragma omp simd reduction(+ : value, magnitude)
  for (std::size_t i = 0; i < k; ++i) {
    const double product = a[i] * w[i];
    value += product;
    magnitude += std::fabs(product);
  }
  sum.value = value;
  sum.magnitude = magnitude;
  return sum;
}

struct Element {
  double value = 0.0;
  double magnitude = 0.0;
  double extra = 0.0;  // error of the shared gate, and of rows rounded to bf16
};

// `bias_weight` is what the bias is multiplied with beside `weight`; `rounding` is the relative error of y's own
// format.
void add_row(const Expert& expert, const std::vector<double>& down, const std::vector<double>& h, Bounded weight,
             double bias_weight, double rounding, std::span<Element> out) {
  for (std::size_t n = 0; n < out.size(); ++n) {
    const Sum y = dot(h, &down[n * h.size()]);
    const double bias = expert.down_bias.empty() ? 0.0 : bias_weight * static_cast<double>(expert.down_bias[n]);
    out[n].value += weight.value * (y.value + bias);
    out[n].magnitude += std::fabs(weight.value) * (y.magnitude + std::fabs(bias));
    out[n].extra += weight.half * std::fabs(y.value + bias);
    const double before = std::fabs(y.value + bias) + static_cast<double>(h.size() + 8) * kUnit * y.magnitude;
    out[n].extra += std::fabs(weight.value) * rounding * before;
  }
}

// The factor in front of a token's shared expert.
Bounded shared_factor(const Layer& layer, std::span<const std::uint16_t> x) {
  if (layer.shared_gate.empty()) return {1.0, 0.0};
  Sum z;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const double product = bf16(x[c]) * static_cast<double>(layer.shared_gate[c]);
    z.value += product;
    z.magnitude += std::fabs(product);
  }
  const double dz = (static_cast<double>(x.size()) + 8) * kUnit * z.magnitude;
  const double factor = sigmoid(z.value);
  return {factor, dz / 4 + 16 * kUnit * factor};
}

enum class RowState { kJudged, kAllNan, kUnjudged };

RowState state_of(const Layer& layer, const Batch& batch, std::int64_t token) {
  RowState state = RowState::kJudged;
  for (std::int64_t j = 0; j < layer.top_k; ++j)
    if (batch.ids[static_cast<std::size_t>(token * layer.top_k + j)] == -2) return RowState::kAllNan;
  for (std::int64_t c = 0; c < layer.hidden; ++c) {
    const double x = bf16(batch.x[static_cast<std::size_t>(token * layer.hidden + c)]);
    if (std::isnan(x)) return RowState::kAllNan;
    if (std::isinf(x)) state = RowState::kUnjudged;
  }
  return state;
}

// A token whose x is NaN but that has no row (all choices dropped, no shared expert) touches no arithmetic: zeros.
bool has_rows(const Layer& layer, const Batch& batch, std::int64_t token) {
  if (layer.shared_inter > 0) return true;
  for (std::int64_t j = 0; j < layer.top_k; ++j)
    if (batch.ids[static_cast<std::size_t>(token * layer.top_k + j)] != -1) return true;
  return false;
}

double median(std::vector<double>& values) {
  if (values.empty()) return 0.0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Report check_output(const Layer& layer, const Batch& batch, const Intermediate& got, OutputType type,
                    std::span<const double> output) {
  const auto hidden = static_cast<std::size_t>(layer.hidden);
  std::vector<Element> want(output.size());
  const auto row_of_want = [&](std::int64_t token) {
    return std::span<Element>(want).subspan(static_cast<std::size_t>(token) * hidden, hidden);
  };
  for (std::size_t e = 0; e < layer.experts.size(); ++e) {
    std::vector<double> down;
    for (std::size_t choice = 0; choice < batch.ids.size(); ++choice) {
      if (batch.ids[choice] < 0 || static_cast<std::size_t>(batch.ids[choice]) != e) continue;
      if (down.empty()) down = decode(layer.experts[e].down);
      const double w = static_cast<double>(batch.weights[choice]);
      add_row(layer.experts[e], down, decode(got.routed, got.row_of[choice]),
              {layer.weight_before_gemm2 ? 1.0 : w, 0.0}, layer.weight_before_gemm2 ? w : 1.0,
              got.y_is_bf16 ? kBf16Unit : 0.0, row_of_want(static_cast<std::int64_t>(choice) / layer.top_k));
    }
  }
  if (layer.shared_inter > 0) {
    const std::vector<double> down = decode(layer.shared.down);
    for (std::int64_t t = 0; t < batch.tokens; ++t)
      add_row(layer.shared, down, decode(got.shared, t),
              shared_factor(layer, batch.x.subspan(static_cast<std::size_t>(t) * hidden, hidden)), 1.0, 0.0,
              row_of_want(t));
  }

  Report report;
  report.elements = static_cast<std::int64_t>(output.size());
  std::vector<double> bounds, references;
  const double inner = static_cast<double>(std::max(layer.inter, layer.shared_inter) + layer.top_k + 8);
  const double rounding = type == OutputType::kBf16 ? kBf16Unit : kUnit;
  for (std::int64_t t = 0; t < batch.tokens; ++t) {
    const RowState state = has_rows(layer, batch, t) ? state_of(layer, batch, t) : RowState::kJudged;
    if (state == RowState::kUnjudged) continue;
    for (std::size_t c = 0; c < hidden; ++c) {
      const std::size_t at = static_cast<std::size_t>(t) * hidden + c;
      const Element& y = want[at];
      const double beta = inner * kUnit * y.magnitude + y.extra;
      const double bound = beta + rounding * (std::fabs(y.value) + beta) + 1e-40;
      const double error = std::fabs(output[at] - y.value);
      const bool inside = state == RowState::kAllNan ? std::isnan(output[at]) : error <= bound;
      if (state == RowState::kJudged) {
        report.worst_share = std::max(report.worst_share, error / bound);
        bounds.push_back(bound);
        references.push_back(std::fabs(y.value));
        if (output[at] == 0.0) ++report.zeros;
      }
      if (inside || report.outside++ > 0) continue;
      std::ostringstream text;
      text.precision(9);
      text << "token " << t << " (experts";
      for (std::int64_t j = 0; j < layer.top_k; ++j)
        text << ' ' << batch.ids[static_cast<std::size_t>(t * layer.top_k + j)];
      text << "), col " << c << ": got " << output[at] << ", want ";
      if (state == RowState::kAllNan)
        text << "NaN";
      else
        text << y.value << ", bound " << bound << ", " << 100 * error / bound << "% of bound";
      report.first = text.str();
    }
  }
  report.median_bound = median(bounds);
  report.median_reference = median(references);
  return report;
}

}  // namespace oracle
