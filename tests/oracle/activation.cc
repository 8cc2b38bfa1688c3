#include "oracle/activation.h"

#include <algorithm>
#include <cmath>

#include "oracle/numbers.h"

namespace oracle {
namespace {

constexpr double kExpf = 16.0;  // c above

Bounded clamp_ends(Bounded x, double low, double high) {
  const double lo = std::clamp(x.value - x.half, low, high);
  const double hi = std::clamp(x.value + x.half, low, high);
  return {(lo + hi) / 2, (hi - lo) / 2};
}

}  // namespace

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Bounded activate(const Layer& layer, Bounded gate, Bounded up) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Bounded g = std::isinf(layer.limit) ? gate : clamp_ends(gate, -infinity, layer.limit);
  Bounded u = std::isinf(layer.limit) ? up : clamp_ends(up, -layer.limit, layer.limit);
  const double alpha = layer.kind == Kind::kSwiglu ? 1.0 : layer.alpha;
  if (layer.kind == Kind::kSwigluOai) u.value += 1.0;

  const double s = sigmoid(alpha * g.value);
  const double f = g.value * s;
  const double slope = s + alpha * g.value * s * (1 - s);
  const double df = std::fabs(slope) * g.half + std::fabs(alpha) * g.half * g.half / 4;
  const double value = f * u.value;
  double half = df * (std::fabs(u.value) + u.half) + std::fabs(f) * u.half + kExpf * kUnit * std::fabs(value) + 1e-30;
  if (layer.kind == Kind::kSwigluOai)
    half += kUnit * std::fabs(alpha * g.value * g.value * s * (1 - s)) * (std::fabs(u.value) + u.half);
  return {value, half};
}

}  // namespace oracle
