// Between the two GEMMs: a value and how far an fp32 implementation may be from it.
#pragma once

#include "oracle/layer.h"

namespace oracle {

// The true value lies within `half` of `value`, for every rounding that fp32 arithmetic may make.
struct Bounded {
  double value = 0.0;
  double half = 0.0;
};

// swiglu:     silu(min(g, L)) * clamp(u, -L, L)
// swiglu oai: g sigmoid(alpha g) * (u + 1), after the same clamps
//
// Derivation. Clamping is monotone and exact, so the ends of g and u are clamped; G, dG and U, dU are then midpoint and
// half-width. With f(x) = x sigmoid(alpha x): f'(x) = s + alpha x s (1 - s), |f''| <= alpha / 2, so by Taylor
// |f(G + d) - f(G)| <= |f'(G)| dG + alpha dG^2 / 4 =: dF, and |f u - F U| <= dF (|U| + dU) + |F| dU. Evaluating f(g) *
// u in fp32 with an expf good to about 2 ulp (exp, 1 + e, division, products, u + 1) adds c u |A|, c = 16. Where alpha
// is not 1, rounding alpha g moves the sigmoid's argument by u |alpha g|, and f by that times |G| s (1 - s).
Bounded activate(const Layer& layer, Bounded gate, Bounded up);

double sigmoid(double x);

}  // namespace oracle
