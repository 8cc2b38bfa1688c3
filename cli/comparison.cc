#include "comparison.h"

#include <cmath>

namespace megamoe::cli {

Comparison compare(std::span<const float> found, std::span<const float> expected) {
  double difference = 0;
  double expected_square = 0;
  double found_square = 0;
  double product = 0;
  Comparison result;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double f = found[i];
    const double e = expected[i];
    const double error = std::fabs(f - e);
    difference += error * error;
    expected_square += e * e;
    found_square += f * f;
    product += f * e;
    if (!(error <= result.max_abs)) result.max_abs = error;
  }
  if (difference != 0) result.rel_error = std::sqrt(difference / expected_square);
  if (difference != 0) result.cosine = product / std::sqrt(expected_square * found_square);
  return result;
}

}  // namespace megamoe::cli
