#include "oracle/quantise.h"

#include <algorithm>
#include <cmath>

#include "oracle/numbers.h"

namespace oracle {
namespace {

constexpr double kSlack = 4 * kUnit;

double amax(std::span<const double> x) {
  double most = 0.0;
  for (const double value : x) most = std::max(most, std::fabs(value));
  return most;
}

// Stretches [lo, hi], both of a magnitude, over the result `magnitude`, and puts the sign back at the end.
Interval with_sign(double lo, double hi, double x) { return x < 0 ? Interval{-hi, -lo} : Interval{lo, hi}; }

void quantise_block_nvfp4(std::span<const double> x, double global, std::vector<Interval>& out) {
  const double scale = amax(x) / (6.0 * global);
  const double s_lo = round_e4m3(scale * (1 - kSlack));
  const double s_hi = round_e4m3(scale * (1 + kSlack));
  for (const double value : x) {
    const double a = std::fabs(value);
    double lo = 1e300, hi = 0.0;
    for (const double s : {s_lo, s_hi}) {
      const double step = s * global;
      const double low = s == 0.0 ? 0.0 : round_e2m1(a / step * (1 - kSlack)) * step;
      const double high = s == 0.0 ? 0.0 : round_e2m1(a / step * (1 + kSlack)) * step;
      lo = std::min(lo, low);
      hi = std::max(hi, high);
    }
    out.push_back(with_sign(lo, hi, value));
  }
}

void quantise_chunk_int8(std::span<const double> x, std::vector<Interval>& out) {
  const double scale = static_cast<float>(amax(x) / 127.0);
  for (const double value : x) {
    const double a = std::fabs(value);
    if (scale == 0.0) {
      out.push_back({});
      continue;
    }
    // The scale itself is one fp32 division; an implementation that multiplies by 1/127 would be 2u away.
    const double lo = round_int8(a / scale * (1 - kSlack)) * scale * (1 - 2 * kUnit);
    const double hi = round_int8(a / scale * (1 + kSlack)) * scale * (1 + 2 * kUnit);
    out.push_back(with_sign(lo, hi, value));
  }
}

}  // namespace

std::vector<Interval> quantise(Activations format, std::span<const double> x, double static_global) {
  std::vector<Interval> out;
  out.reserve(x.size());
  if (format == Activations::kBf16) {
    for (const double value : x) out.push_back({value, value});
  } else if (format == Activations::kInt8) {
    for (std::size_t c = 0; c < x.size(); c += 64)
      quantise_chunk_int8(x.subspan(c, std::min<std::size_t>(64, x.size() - c)), out);
  } else {
    const double global =
        static_global > 0.0 ? static_global : static_cast<double>(static_cast<float>(amax(x) / 2688.0));
    for (std::size_t c = 0; c < x.size(); c += 16) {
      if (global == 0.0)
        out.resize(out.size() + 16);  // a row of zeros
      else
        quantise_block_nvfp4(x.subspan(c, 16), global, out);
    }
  }
  return out;
}

}  // namespace oracle
