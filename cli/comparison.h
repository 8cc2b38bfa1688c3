// How far an output is from what was expected.
#pragma once

#include <span>

namespace megamoe::cli {

struct Comparison {
  double rel_error = 0;  // Frobenius norm of the difference / of what was expected; 0 where both are 0
  double cosine = 1;
  double max_abs = 0;
};

// Both [tokens, hidden]. NaN anywhere gives NaN.
Comparison compare(std::span<const float> found, std::span<const float> expected);

}  // namespace megamoe::cli
