// Stage 2: the output against the second GEMM on the code under test's own intermediate.
#pragma once

#include <span>

#include "oracle/layer.h"
#include "oracle/report.h"

namespace oracle {

enum class OutputType { kBf16, kF32 };

// With h the dequantised intermediate of the code under test, exact in double, and I the widest inner dimension:
//   Y = sum_j w_j (sum_i h_i w_i + b) + gate * shared     (w_j in front of b only where it went into h)
//   S = the same sum of magnitudes
//   beta = (I + k + 8) u S      I - 1 additions and the products with scales per row, k + 1 additions across rows
// A gate in front of the shared expert is sigmoid(z), z = x . v over H terms: its error is 1/4 of dz = (H + 8) u sum|x
// v| (the slope of the sigmoid is at most 1/4) plus 16 u of itself, and multiplies |shared|. Then one rounding to the
// output's type: |out - Y| <= beta + r (|Y| + beta) + 1e-40, r = 2^-8 for bf16, u for fp32. Rows of a token with NaN in
// x, or with a poisoned choice (id -2), must be NaN throughout; other non-finite rows are not judged.
Report check_output(const Layer& layer, const Batch& batch, const Intermediate& got, OutputType type,
                    std::span<const double> output);

}  // namespace oracle
