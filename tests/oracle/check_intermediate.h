// Stage 1: the codes and scales of the intermediate against the interval that mathematics allows.
#pragma once

#include "oracle/gemm1.h"
#include "oracle/layer.h"
#include "oracle/report.h"

namespace oracle {

// For A +- D of each element (gemm1.h), u = 2^-24, and the code under test's own scales where one code is judged:
//   bf16   round(A - D) <= h <= round(A + D)
//   nvfp4  g: fp32 of amax / 2688 over the row, or exactly the static one
//          s: R_E(lo / (6 g) (1 - 4u)) <= s <= R_E(hi / (6 g) (1 + 4u)), lo and hi the least and greatest possible amax
//          code: Q((A - D)/(s g) -+ 4u) <= code <= Q((A + D)/(s g) +- 4u), as values, so -0 = 0; all 0 where s = 0
//   int8   s: amax / 127 of 64 values likewise, no rounding to codes; code likewise; all 0 where s = 0
// The 4u are the fp32 operations between a value and its code: product with the constant, division, division.
// The report counts elements of routed rows; the shared expert's, perhaps of another format, are judged alike.
Report check_intermediate(const Layer& layer, const Batch& batch, const Expected& expected, const Intermediate& got);

}  // namespace oracle
