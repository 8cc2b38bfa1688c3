// The score functions, in double: a weight or a compared score is rounded to f32 once, at its end, so that it does not
// depend on whose exponential computed it or in which order a sum ran.
#pragma once

#include <span>

#include "megamoe/routing.h"

namespace megamoe {

// scores[i] = exp(logits[i] - max) / sum over all i. All zero where every logit is -inf.
// Logits are finite or -inf; -inf scores 0.
void softmax(std::span<const float> logits, std::span<double> scores);

// The unbiased score of each expert of one token. kTopkThenSoftmax scores with the logit itself: its softmax runs over
// the chosen experts only.
void score_experts(ScoreFunction function, std::span<const float> logits, std::span<double> scores);

}  // namespace megamoe
