#include "routing/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace megamoe {
namespace {

// exp only of what is not positive: no overflow, and small results keep their digits.
double sigmoid(double logit) {
  const double tail = std::exp(-std::fabs(logit));
  return (logit < 0 ? tail : 1.0) / (1.0 + tail);
}

double sqrt_softplus(double logit) { return std::sqrt(std::max(logit, 0.0) + std::log1p(std::exp(-std::fabs(logit)))); }

}  // namespace

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
  switch (function) {
    case ScoreFunction::kSoftmax:
      return softmax(logits, scores);
    case ScoreFunction::kSigmoid:
      std::transform(logits.begin(), logits.end(), scores.begin(), sigmoid);
      return;
    case ScoreFunction::kSqrtSoftplus:
      std::transform(logits.begin(), logits.end(), scores.begin(), sqrt_softplus);
      return;
    case ScoreFunction::kTopkThenSoftmax:
      std::copy(logits.begin(), logits.end(), scores.begin());
      return;
  }
}

}  // namespace megamoe
