// The score functions, in double: a weight or a compared score is rounded to f32 once, at its end, so that it does not
// depend on whose exponential computed it or in which order a sum ran.
#pragma once

#include <cmath>
#include <span>

#include "megamoe/host_device.h"
#include "megamoe/routing.h"

namespace megamoe {

// The score of one expert where it depends on no other logit: not kSoftmax. kTopkThenSoftmax scores with the logit
// itself: its softmax runs over the chosen experts only.
MEGAMOE_HD inline double expert_score(ScoreFunction function, float logit) {
  const double l = logit;
  if (function == ScoreFunction::kTopkThenSoftmax) return l;
  const double tail = std::exp(-std::fabs(l));  // exp only of what is not positive: small results keep their digits
  if (function == ScoreFunction::kSigmoid) return (l < 0 ? tail : 1.0) / (1.0 + tail);
  return std::sqrt((l > 0 ? l : 0.0) + std::log1p(tail));
}

// scores[i] = exp(logits[i] - max) / sum over all i. All zero where every logit is -inf.
// Logits are finite or -inf; -inf scores 0.
void softmax(std::span<const float> logits, std::span<double> scores);

// The unbiased score of each expert of one token.
void score_experts(ScoreFunction function, std::span<const float> logits, std::span<double> scores);

}  // namespace megamoe
