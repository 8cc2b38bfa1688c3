// Global scales between dialects. The reciprocal of a reciprocal is another number for 17 % of all f32: of the numbers
// in (1/sqrt(2), 1) times a power of two, some are nobody's rounded reciprocal.
#include <cmath>
#include <limits>

#include "checkpoint/rewrite.h"

namespace megamoe {

TensorSpec scalar_spec(const Dialect& dialect, std::string name) {
  return {std::move(name), DType::kF32, dialect.scalar_rank == 0 ? Shape{} : Shape{1}};
}

float stored_scalar(const Dialect& dialect, float multiplier, bool* is_exact) {
  if (is_exact != nullptr) *is_exact = true;
  if (!dialect.stores_reciprocals) return multiplier;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nearest = 1.0f / multiplier;
  for (const float candidate : {nearest, std::nextafter(nearest, 0.0f), std::nextafter(nearest, kInfinity)})
    if (1.0f / candidate == multiplier) return candidate;
  if (is_exact != nullptr) *is_exact = false;
  return nearest;
}

float storable_multiplier(float multiplier) { return 1.0f / (1.0f / multiplier); }

}  // namespace megamoe
