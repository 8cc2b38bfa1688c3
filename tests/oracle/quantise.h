// What a row of activations may become in each activation format: an interval per element, nearly always one value.
//
// The contract (docs/numerics.md) fixes the fp32 operations of the quantiser, and other tests hold the library to its
// bytes. Here only the mathematics counts: a result is accepted where a few fp32 roundings explain it. So
//   nvfp4   g = amax(row) / 2688 (or the given static one); s = E4M3(amax(block) / (6 g)); code = E2M1(x / (s g))
//   int8    s = amax(64 values) / 127; code = nearest integer of x / s, ties to even
// with each quotient known to a relative 4u, u = 2^-24. A quotient within 4u of a rounding threshold gives both codes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "oracle/layer.h"

namespace oracle {

struct Interval {
  double lo = 0.0;
  double hi = 0.0;
  double mid() const { return (lo + hi) / 2; }
  double half() const { return (hi - lo) / 2; }
};

// x [cols] exact bf16 values. static_global is used where the format is nvfp4 and it is above 0.
std::vector<Interval> quantise(Activations format, std::span<const double> x, double static_global);

}  // namespace oracle
