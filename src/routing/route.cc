// Scores to experts: keys, groups, top-k, weights; one token at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/routing.h"
#include "routing/check.h"
#include "routing/scores.h"

namespace megamoe {
namespace {

// Orders expert (or group) indices by falling key; equal keys by rising index.
auto by_falling(std::span<const float> keys) {
  return [keys](std::int32_t a, std::int32_t b) {
    return keys[static_cast<std::size_t>(a)] != keys[static_cast<std::size_t>(b)]
               ? keys[static_cast<std::size_t>(a)] > keys[static_cast<std::size_t>(b)]
               : a < b;
  };
}

// The first `count` of `indices` by falling key.
std::span<const std::int32_t> best(std::span<const float> keys, std::span<std::int32_t> indices, std::int64_t count) {
  std::partial_sort(indices.begin(), indices.begin() + count, indices.end(), by_falling(keys));
  return indices.first(static_cast<std::size_t>(count));
}

class TokenRouter {
 public:
  TokenRouter(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k, std::span<const float> choice_bias)
      : rule_(rule),
        top_k_(static_cast<std::ptrdiff_t>(top_k)),
        group_size_(experts / rule.groups),
        choice_bias_(choice_bias),
        drops_groups_(rule.groups_kept < rule.groups),
        scores_(static_cast<std::size_t>(experts)),
        keys_(static_cast<std::size_t>(experts)),
        candidates_(static_cast<std::size_t>(experts)),
        group_keys_(static_cast<std::size_t>(rule.groups)),
        groups_(static_cast<std::size_t>(rule.groups)),
        chosen_logits_(static_cast<std::size_t>(top_k)),
        chosen_scores_(static_cast<std::size_t>(top_k)) {}

  void route(std::span<const float> logits, std::span<std::int32_t> ids, std::span<float> weights) {
    score_experts(rule_.score, logits, scores_);
    make_keys(logits);
    list_candidates();
    const auto chosen = best(keys_, std::span(candidates_).first(candidate_count_), top_k_);
    std::copy(chosen.begin(), chosen.end(), ids.begin());
    make_weights(logits, ids, weights);
  }

 private:
  // Every score function rises strictly with the logit, so without a bias the logits order the experts as their exact
  // scores do, and no exponential decides.
  void make_keys(std::span<const float> logits) {
    for (std::size_t e = 0; e < keys_.size(); ++e) {
      keys_[e] = choice_bias_.empty() ? logits[e] : static_cast<float>(scores_[e]) + choice_bias_[e];
    }
  }

  // Experts of dropped groups are left out, rather than given a key that some chosen expert might share.
  void list_candidates() {
    if (!drops_groups_) {
      std::iota(candidates_.begin(), candidates_.end(), 0);
      candidate_count_ = candidates_.size();
      return;
    }
    for (std::size_t g = 0; g < groups_.size(); ++g) group_keys_[g] = group_key(g);
    std::iota(groups_.begin(), groups_.end(), 0);
    candidate_count_ = 0;
    for (const std::int32_t group : best(group_keys_, groups_, rule_.groups_kept)) {
      for (std::int64_t i = 0; i < group_size_; ++i) {
        candidates_[candidate_count_++] = static_cast<std::int32_t>(group * group_size_ + i);
      }
    }
  }

  float group_key(std::size_t group) const {
    const bool sums = rule_.group_score == GroupScore::kTop2Sum;
    const bool of_scores = sums && choice_bias_.empty();  // a sum of logits would mean nothing
    const auto size = static_cast<std::size_t>(group_size_);
    float first = -std::numeric_limits<float>::infinity();
    float second = first;
    for (std::size_t e = group * size; e < (group + 1) * size; ++e) {
      const float key = of_scores ? static_cast<float>(scores_[e]) : keys_[e];
      second = std::max(second, std::min(first, key));
      first = std::max(first, key);
    }
    return sums ? first + second : first;
  }

  // Always from the unbiased scores: (s + bias) - bias loses all digits of s where the bias is large.
  void make_weights(std::span<const float> logits, std::span<const std::int32_t> ids, std::span<float> weights) {
    for (std::size_t j = 0; j < ids.size(); ++j) {
      const auto expert = static_cast<std::size_t>(ids[j]);
      chosen_logits_[j] = logits[expert];
      chosen_scores_[j] = scores_[expert];
    }
    double divisor = 1;
    if (rule_.score == ScoreFunction::kTopkThenSoftmax) {
      softmax(chosen_logits_, chosen_scores_);
    } else if (rule_.renormalize) {
      divisor = std::accumulate(chosen_scores_.begin(), chosen_scores_.end(), 0.0);
      divisor += static_cast<double>(rule_.renormalize_epsilon);
      if (divisor == 0) divisor = 1;  // all chosen scores are 0, and so are the weights
    }
    const double scale = rule_.scale;
    for (std::size_t j = 0; j < ids.size(); ++j) weights[j] = static_cast<float>(chosen_scores_[j] / divisor * scale);
  }

  const RoutingRule& rule_;
  std::ptrdiff_t top_k_;
  std::int64_t group_size_;
  std::span<const float> choice_bias_;
  bool drops_groups_;
  std::vector<double> scores_;            // [experts]
  std::vector<float> keys_;               // [experts]  what the choice compares
  std::vector<std::int32_t> candidates_;  // [experts]  the first candidate_count_ may be chosen
  std::size_t candidate_count_ = 0;
  std::vector<float> group_keys_;      // [groups]
  std::vector<std::int32_t> groups_;   // [groups]
  std::vector<float> chosen_logits_;   // [top_k]
  std::vector<double> chosen_scores_;  // [top_k]
};

bool has_score(float logit) { return logit < std::numeric_limits<float>::infinity(); }

}  // namespace

std::int64_t route(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k, std::span<const float> logits,
                   std::span<const float> choice_bias, std::span<std::int32_t> topk_ids,
                   std::span<float> topk_weights) {
  validate(rule, experts, top_k);
  const auto width = static_cast<std::size_t>(experts);
  const auto choices = static_cast<std::size_t>(top_k);
  const std::size_t tokens = logits.size() / width;
  check_elements("logits", logits.size(), tokens * width);
  check_elements("topk_ids", topk_ids.size(), tokens * choices);
  check_elements("topk_weights", topk_weights.size(), tokens * choices);
  if (!choice_bias.empty()) check_elements("choice_bias", choice_bias.size(), width);
  const auto bad_bias = std::find_if_not(choice_bias.begin(), choice_bias.end(), has_score);
  if (bad_bias != choice_bias.end()) {
    throw Error(Code::kInvalidArgument, "choice_bias[", bad_bias - choice_bias.begin(), "]: found ", *bad_bias,
                ", accepted: finite numbers and -inf");
  }

  TokenRouter router(rule, experts, top_k, choice_bias);
  std::int64_t poisoned = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto token_logits = logits.subspan(t * width, width);
    const auto ids = topk_ids.subspan(t * choices, choices);
    const auto weights = topk_weights.subspan(t * choices, choices);
    if (std::all_of(token_logits.begin(), token_logits.end(), has_score)) {
      router.route(token_logits, ids, weights);
    } else {
      std::fill(ids.begin(), ids.end(), kPoisonedExpert);
      std::fill(weights.begin(), weights.end(), std::numeric_limits<float>::quiet_NaN());
      ++poisoned;
    }
  }
  return poisoned;
}

}  // namespace megamoe
