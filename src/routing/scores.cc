#include "routing/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace megamoe {
void softmax(std::span<const float> logits, std::span<double> scores) {
  const double max = *std::max_element(logits.begin(), logits.end());
  if (max == -std::numeric_limits<double>::infinity()) {
    std::fill(scores.begin(), scores.end(), 0.0);
    return;
  }
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    scores[i] = std::exp(logits[i] - max);
    sum += scores[i];
  }
  for (double& score : scores) score /= sum;
}

void score_experts(ScoreFunction function, std::span<const float> logits, std::span<double> scores) {
  if (function == ScoreFunction::kSoftmax) return softmax(logits, scores);
  std::transform(logits.begin(), logits.end(), scores.begin(),
                 [function](float logit) { return expert_score(function, logit); });
}

}  // namespace megamoe
