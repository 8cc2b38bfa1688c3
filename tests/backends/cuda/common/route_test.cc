// The device's routing against the host's: the same experts, and weights within one unit in the last place.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/common/stages.h"
#include "megamoe/routing.h"
#include "support/random.h"

namespace megamoe::cuda::test {
namespace {

using megamoe::test::Random;

// Token t's logits are of kind t % 8.
float make_logit(Random& random, std::int64_t kind, std::int64_t expert) {
  constexpr float kInf = INFINITY;
  switch (kind) {
    case 0:
      return static_cast<float>(random.normal());
    case 1:
      return static_cast<float>(random.below(5)) * 0.5f - 1.0f;  // ties
    case 2:
      return random.below(3) == 0 ? -kInf : static_cast<float>(random.normal());  // masked experts
    case 3:
      return -kInf;
    case 4:
      return expert == 0 && random.below(2) == 0 ? kInf : expert % 7 == 3 ? NAN : 0.0f;
    case 5:
      return static_cast<float>(random.normal()) * 40.0f;
    case 6:
      return random.below(2) == 0 ? 0.0f : -0.0f;
    default:
      return static_cast<float>(random.normal()) * 1.0e-3f - 60.0f;
  }
}

std::int32_t distance(float a, float b) {
  return std::abs(static_cast<std::int32_t>(float_bits(a)) - static_cast<std::int32_t>(float_bits(b)));
}

void check(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k, bool biased, std::int64_t tokens) {
  Random random(static_cast<std::uint64_t>(experts * 100 + top_k));
  std::vector<float> logits(static_cast<std::size_t>(tokens * experts));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    logits[i] = make_logit(random, at / experts % 8, at % experts);
  }
  std::vector<float> bias(biased ? static_cast<std::size_t>(experts) : 0);
  for (float& value : bias) value = static_cast<float>(random.normal()) * 0.1f;
  if (biased && experts > 20) bias[11] = -INFINITY;
  const auto choices = static_cast<std::size_t>(tokens * top_k);
  std::vector<std::int32_t> want_ids(choices);
  std::vector<float> want_weights(choices);
  megamoe::route(rule, experts, top_k, logits, bias, want_ids, want_weights);

  const DeviceArray<float> d_logits(logits);
  const DeviceArray<float> d_bias(bias);
  const DeviceArray<std::int32_t> ids(choices);
  const DeviceArray<float> weights(choices);
  route(rule, tokens, experts, top_k, d_logits.data(), biased ? d_bias.data() : nullptr, ids.data(), weights.data(),
        nullptr);
  const auto got_ids = ids.host();
  const auto got_weights = weights.host();
  for (std::size_t i = 0; i < choices; ++i) {
    const auto token = static_cast<std::int64_t>(i) / top_k;
    const std::string where = rule.to_string() + (biased ? ", biased" : "") + ", experts " + std::to_string(experts) +
                              ", top_k " + std::to_string(top_k) + ": token " + std::to_string(token) + " (kind " +
                              std::to_string(token % 8) + "), choice " +
                              std::to_string(static_cast<std::int64_t>(i) % top_k);
    ASSERT_EQ(got_ids[i], want_ids[i]) << where;
    if (std::isnan(want_weights[i]))
      ASSERT_TRUE(std::isnan(got_weights[i])) << where;
    else
      ASSERT_LE(distance(got_weights[i], want_weights[i]), 1)
          << where << ": got " << got_weights[i] << ", want " << want_weights[i];
  }
}

class RouteOnDevice : public OnDevice {};

constexpr std::array kScores{ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus,
                             ScoreFunction::kTopkThenSoftmax};

TEST_F(RouteOnDevice, chooses_and_weighs_as_the_host) {
  for (const ScoreFunction score : kScores)
    for (const bool biased : {false, true})
      for (const bool renormalize : {false, true})
        for (const std::int64_t experts : {1, 8, 33, 60, 256, 512, 1024})
          for (const std::int64_t top_k : {1, 2, 6, 8, 40}) {
            if (top_k > experts) continue;
            RoutingRule rule;
            rule.score = score;
            rule.renormalize = renormalize;
            rule.renormalize_epsilon = biased ? 1e-20f : 0.0f;
            rule.scale = biased ? 2.5f : 1.0f;
            check(rule, experts, top_k, biased, 37);
          }
}

TEST_F(RouteOnDevice, keeps_groups_as_the_host) {
  for (const ScoreFunction score : kScores)
    for (const bool biased : {false, true})
      for (const GroupScore group_score : {GroupScore::kMax, GroupScore::kTop2Sum})
        for (const auto& [experts, groups, kept] :
             {std::array<std::int64_t, 3>{256, 8, 4}, {64, 32, 7}, {128, 64, 40}, {160, 8, 3}, {12, 2, 1}}) {
          RoutingRule rule;
          rule.score = score;
          rule.groups = groups;
          rule.groups_kept = kept;
          rule.group_score = group_score;
          check(rule, experts, 6, biased, 41);
        }
}

TEST_F(RouteOnDevice, takes_any_number_of_tokens_and_experts) {
  for (const std::int64_t tokens : {0, 1, 3, 4, 5, 4097}) check({}, 64, 6, false, tokens);
  RoutingRule rule;
  rule.score = ScoreFunction::kSigmoid;
  for (const std::int64_t experts : {3000, 20'000, 45'000}) check(rule, experts, 8, true, 9);
  rule.groups = 500;
  rule.groups_kept = 20;
  check(rule, 45'000, 8, true, 9);
}

}  // namespace
}  // namespace megamoe::cuda::test
