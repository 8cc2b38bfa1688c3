// Inputs for which every sum of both GEMMs is exact in fp32 in any order, so that all backends must give equal bits.
//
// E2M1 codes times power-of-two scales make all products multiples of a common unit, far below 2^24 units in sum. The
// rest is to know the values between the stages:
//  - x repeats itself backwards: x[c] = x[hidden - 1 - c], and gate and up hold opposite weights at c and hidden - 1 -
//  c,
//    so that these dense sums cancel to exactly 0: any nibble, scale, offset or tail error breaks the balance;
//  - a few special columns, whose mirror images are 0 in x, carry the values: G is 64 or 128, where sigmoid is 1 in
//  fp32
//    and silu(G) = G, and U is a small multiple of a power of two;
//  - the largest value of each group is such that the activation format's scale is a power of two (E4M3 value): 2688 *
//  2^n
//    for a computed global scale, 6 * 2^n for a block, 127 * 2^n for 64 integers. So quantising x and h is exact or
//    rounds an exact quotient.
#pragma once

#include <string_view>

#include "support/test_case.h"

namespace megamoe::test {

// hidden must be at least 64, so that there is a block for each kind of column.
//
// All rows of one expert have the same G and U, unless tokens differ: then U of token t, and with it the row's result,
// is half, once or twice as large by t % 3, which is as exact. Not for int8 activations.
enum class ExactTokens { kAlike, kDiffer };
Case make_exact_case(std::string_view problem, ExactTokens tokens = ExactTokens::kAlike);

}  // namespace megamoe::test
