// What a row of activations becomes in each activation format, before the first GEMM.
//
// x is known exactly (it is bf16), so nothing is left to rounding: the contract (docs/numerics.md) fixes each fp32
// operation, written fl() here, and the oracle follows it in its own words.
//   nvfp4   g = fl(amax(row) / 2688), or the given static one; per block of 16: s = E4M3(fl(amax / fl(6 g))),
//   saturating;
//           code = E2M1(fl(x / fl(s g))); the value is code * s * g, exact
//   int8    per 64: s = fl(amax / 127); code = fl(x / s) to the nearest integer, ties to even; the value is code * s
//   bf16    as it is
#pragma once

#include <span>
#include <vector>

#include "oracle/layer.h"

namespace oracle {

// x [cols] exact bf16 values. static_global is used where the format is nvfp4 and it is above 0.
std::vector<double> quantise(Activations format, std::span<const double> x, double static_global);

}  // namespace oracle
