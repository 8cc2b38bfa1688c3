#include "oracle/quantise.h"

#include <algorithm>
#include <cmath>

#include "oracle/numbers.h"

namespace oracle {
namespace {

// One fp32 operation: its operands are fp32 values, its double result is rounded once more. For + - * / that second
// rounding is innocent, because 53 >= 2 * 24 + 2 (Figueroa, When is double rounding innocuous?, 1995).
double fl(double value) { return static_cast<float>(value); }

double amax(std::span<const double> x) {
  double most = 0.0;
  for (const double value : x) most = std::max(most, std::fabs(value));
  return most;
}

void quantise_block_nvfp4(std::span<const double> x, double global, std::vector<double>& out) {
  const double s = round_e4m3(fl(amax(x) / fl(6.0 * global)));
  const double step = fl(s * global);
  for (const double value : x) out.push_back(step == 0.0 ? 0.0 : round_e2m1(fl(value / step)) * s * global);
}

void quantise_chunk_int8(std::span<const double> x, std::vector<double>& out) {
  const double scale = fl(amax(x) / 127.0);
  for (const double value : x) out.push_back(scale == 0.0 ? 0.0 : round_int8(fl(value / scale)) * scale);
}

}  // namespace

std::vector<double> quantise(Activations format, std::span<const double> x, double static_global) {
  if (format == Activations::kBf16) return {x.begin(), x.end()};
  std::vector<double> out;
  out.reserve(x.size());
  const double global = static_global > 0.0 ? static_global : fl(amax(x) / 2688.0);
  if (format == Activations::kInt8) {
    for (std::size_t c = 0; c < x.size(); c += 64)
      quantise_chunk_int8(x.subspan(c, std::min<std::size_t>(64, x.size() - c)), out);
  } else if (global == 0.0) {
    out.resize(x.size());  // a row of zeros
  } else {
    for (std::size_t c = 0; c < x.size(); c += 16) quantise_block_nvfp4(x.subspan(c, 16), global, out);
  }
  return out;
}

}  // namespace oracle
