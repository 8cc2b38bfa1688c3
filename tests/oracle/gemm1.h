// Stage 1 as mathematics: what the second GEMM's input is before it is rounded, with the error that fp32 may make.
#pragma once

#include <cstdint>
#include <vector>

#include "oracle/activation.h"
#include "oracle/layer.h"

namespace oracle {

// One row of the second GEMM's input.
struct ExpectedRow {
  bool exists = false;          // the choice has a row
  bool finite = false;          // the token's x is finite: otherwise `values` is empty
  std::vector<Bounded> values;  // [inter]
};

struct Expected {
  std::vector<ExpectedRow> routed;  // [tokens * top_k], by choice
  std::vector<ExpectedRow> shared;  // [tokens], empty without a shared expert
};

// Derivation of dG, the half-width of G = sum_c a_c w_c + b over K terms:
//  - every product of an activation code and a weight code is exact in fp32 or in an integer: E2M1 x E2M1, int8 x E2M1,
//    bf16 x E2M1, bf16 x bf16 have at most 16 significant bits;
//  - scales and globals enter by a few products, each a relative u, whatever their order: 8 u covers them;
//  - K - 1 additions in any order, blocked or not, add at most (K - 1) u sum|a w|.
//  So dG = (K + 8) u sum|a_c w_c|, plus u (|G| + |b|) for a bias.
// Then activate(); a top-k weight before the second GEMM multiplies value and half-width and adds u |A w|.
Expected gemm1(const Layer& layer, const Batch& batch);

}  // namespace oracle
