// Every rule against a second implementation written from the formulas (repeated argmax over masked keys, naive
// exponentials in double), and the cases in which routers of real engines went wrong.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Ids = std::vector<std::int32_t>;
using Floats = std::vector<float>;

struct Routed {
  Ids ids;
  Floats weights;
  std::int64_t poisoned = 0;
};

Routed route_all(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k, const Floats& logits,
                 const Floats& bias = {}) {
  const auto tokens = logits.size() / static_cast<std::size_t>(experts);
  Routed out{Ids(tokens * static_cast<std::size_t>(top_k), -77), Floats(tokens * static_cast<std::size_t>(top_k), 77)};
  out.poisoned = route(rule, experts, top_k, logits, bias, out.ids, out.weights);
  return out;
}

// ---- The second implementation: one token, finite logits in [-30, 30] -----------------------------------------------

double naive_score(ScoreFunction function, double logit, double softmax_sum) {
  switch (function) {
    case ScoreFunction::kSoftmax:
      return std::exp(logit) / softmax_sum;
    case ScoreFunction::kSigmoid:
      return 1 / (1 + std::exp(-logit));
    case ScoreFunction::kSqrtSoftplus:
      return std::sqrt(std::log1p(std::exp(logit)));
    case ScoreFunction::kTopkThenSoftmax:
      return logit;
  }
  return 0;
}

std::size_t argmax(const std::vector<double>& keys) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < keys.size(); ++i) {
    if (keys[i] > keys[best]) best = i;
  }
  return best;
}

Routed naive_route(const RoutingRule& rule, std::int64_t top_k, const Floats& logits, const Floats& bias) {
  const std::size_t experts = logits.size();
  double softmax_sum = 0;
  for (const float l : logits) softmax_sum += std::exp(static_cast<double>(l));
  std::vector<double> scores(experts);
  std::vector<double> keys(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    scores[e] = naive_score(rule.score, logits[e], softmax_sum);
    keys[e] = bias.empty() ? scores[e] : static_cast<double>(static_cast<float>(scores[e]) + bias[e]);
  }
  const auto groups = static_cast<std::size_t>(rule.groups);
  const std::size_t size = experts / groups;
  if (rule.groups_kept < rule.groups) {
    std::vector<double> group_keys(groups);
    for (std::size_t g = 0; g < groups; ++g) {
      std::vector<double> members(keys.begin() + static_cast<std::ptrdiff_t>(g * size),
                                  keys.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::sort(members.rbegin(), members.rend());
      group_keys[g] = rule.group_score == GroupScore::kMax
                          ? members[0]
                          : static_cast<double>(static_cast<float>(members[0]) + static_cast<float>(members[1]));
    }
    std::vector<bool> kept(groups, false);
    for (std::int64_t i = 0; i < rule.groups_kept; ++i) {
      const std::size_t g = argmax(group_keys);
      kept[g] = true;
      group_keys[g] = -std::numeric_limits<double>::infinity();
    }
    for (std::size_t e = 0; e < experts; ++e) {
      if (!kept[e / size]) keys[e] = -std::numeric_limits<double>::infinity();
    }
  }
  Routed out;
  double sum = 0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    const std::size_t e = argmax(keys);
    out.ids.push_back(static_cast<std::int32_t>(e));
    keys[e] = -std::numeric_limits<double>::infinity();
    sum += rule.score == ScoreFunction::kTopkThenSoftmax ? std::exp(scores[e]) : scores[e];
  }
  for (const std::int32_t id : out.ids) {
    double w = scores[static_cast<std::size_t>(id)];
    if (rule.score == ScoreFunction::kTopkThenSoftmax) {
      w = std::exp(w) / sum;
    } else if (rule.renormalize) {
      w /= sum + static_cast<double>(rule.renormalize_epsilon);
    }
    out.weights.push_back(static_cast<float>(w * static_cast<double>(rule.scale)));
  }
  return out;
}

enum class Logits { kNormal, kWide, kFewValues };

Floats make_logits(Logits kind, std::size_t count, std::mt19937& rng) {
  Floats logits(count);
  std::normal_distribution<float> normal(0, 2);
  std::uniform_real_distribution<float> wide(-30, 30);
  std::uniform_int_distribution<int> few(-2, 2);  // ties everywhere
  for (float& l : logits) {
    l = kind == Logits::kNormal ? normal(rng) : kind == Logits::kWide ? wide(rng) : static_cast<float>(few(rng));
  }
  return logits;
}

struct Shape {
  std::int64_t experts, top_k, groups, groups_kept;
};

TEST(route, every_rule_agrees_with_a_naive_one) {
  std::mt19937 rng(1);
  int checked = 0;
  for (const ScoreFunction score : {ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus,
                                    ScoreFunction::kTopkThenSoftmax}) {
    for (const Shape s : {Shape{1, 1, 1, 1}, Shape{8, 2, 1, 1}, Shape{7, 7, 1, 1}, Shape{32, 6, 8, 3},
                          Shape{32, 8, 4, 2}, Shape{64, 8, 8, 8}, Shape{16, 4, 2, 1}, Shape{60, 22, 1, 1}}) {
      for (const GroupScore group_score : {GroupScore::kMax, GroupScore::kTop2Sum}) {
        for (const float bias_size : {0.0f, 0.5f, 20.0f}) {
          for (const bool renormalize : {false, true}) {
            const RoutingRule rule{.score = score,
                                   .renormalize = renormalize,
                                   .renormalize_epsilon = renormalize ? 1e-20f : 0.0f,
                                   .scale = renormalize ? 2.5f : 1.0f,
                                   .groups = s.groups,
                                   .groups_kept = s.groups_kept,
                                   .group_score = group_score};
            for (const Logits kind : {Logits::kNormal, Logits::kWide, Logits::kFewValues}) {
              const Floats logits = make_logits(kind, static_cast<std::size_t>(s.experts), rng);
              Floats bias;
              std::uniform_real_distribution<float> draw(-bias_size, bias_size);
              for (std::int64_t e = 0; bias_size > 0 && e < s.experts; ++e) bias.push_back(draw(rng));
              const Routed got = route_all(rule, s.experts, s.top_k, logits, bias);
              const Routed want = naive_route(rule, s.top_k, logits, bias);
              ASSERT_EQ(got.ids, want.ids) << rule.to_string() << " experts " << s.experts << " bias " << bias_size;
              EXPECT_EQ(got.poisoned, 0);
              for (std::size_t j = 0; j < want.weights.size(); ++j) {
                // Two doubles that differ in their last digits, each rounded once to f32.
                ASSERT_NEAR(got.weights[j], want.weights[j], std::fabs(want.weights[j]) * 0x1p-23f) << rule.to_string();
              }
              ++checked;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(checked, 4 * 8 * 2 * 3 * 2 * 3);
}

// ---- By hand --------------------------------------------------------------------------------------------------------

TEST(route, softmax_over_all_before_the_choice) {
  const float l = std::log(2.0f);  // scores 1/8, 4/8, 1/8, 2/8
  const Routed plain = route_all({.renormalize = false, .scale = 16}, 4, 2, {0, 2 * l, 0, l});
  EXPECT_EQ(plain.ids, (Ids{1, 3}));
  EXPECT_FLOAT_EQ(plain.weights[0], 8);
  EXPECT_FLOAT_EQ(plain.weights[1], 4);
  const Routed renormalised = route_all({}, 4, 2, {0, 2 * l, 0, l});
  EXPECT_FLOAT_EQ(renormalised.weights[0], 2.0f / 3);
}

TEST(route, ties_go_to_the_lower_expert) {
  EXPECT_EQ(route_all({}, 6, 3, {1, 2, 2, 1, 2, 1}).ids, (Ids{1, 2, 4}));
  EXPECT_EQ(route_all({}, 4, 4, {0.0f, -0.0f, 0.0f, -0.0f}).ids, (Ids{0, 1, 2, 3}));
  EXPECT_EQ(route_all({.score = ScoreFunction::kSigmoid}, 3, 2, {0, 0, 0}, {0, 1, 1}).ids, (Ids{1, 2}));
}

TEST(route, ties_go_to_the_lower_group) {
  const RoutingRule rule{.groups = 3, .groups_kept = 1, .group_score = GroupScore::kMax};
  EXPECT_EQ(route_all(rule, 6, 1, {0, 1, 0, 2, 2, 0}).ids, (Ids{3}));
}

TEST(route, saturated_sigmoids_still_choose_the_larger_logit) {
  // All three scores are 1 in f32.
  EXPECT_EQ(route_all({.score = ScoreFunction::kSigmoid}, 3, 1, {40, 50, 45}).ids, (Ids{1}));
  // All are below the smallest float.
  EXPECT_EQ(route_all({.score = ScoreFunction::kSigmoid}, 3, 1, {-300, -290, -310}).ids, (Ids{1}));
}

// vllm-project/vllm#47367: (s + bias) - bias is 0/0 after renormalising.
TEST(route, large_biases_leave_the_weights_alone) {
  const RoutingRule rule{.score = ScoreFunction::kSigmoid, .renormalize_epsilon = 1e-20f};
  const Floats logits{-18, -19, -17, 3};
  const Routed got = route_all(rule, 4, 2, logits, {35, 35, 12, 12});
  EXPECT_EQ(got.ids, (Ids{0, 1}));
  const double s0 = 1 / (1 + std::exp(18.0));
  const double s1 = 1 / (1 + std::exp(19.0));
  EXPECT_FLOAT_EQ(got.weights[0], static_cast<float>(s0 / (s0 + s1)));
  EXPECT_FLOAT_EQ(got.weights[1], static_cast<float>(s1 / (s0 + s1)));
}

TEST(route, bias_changes_the_choice_and_not_the_weight) {
  const RoutingRule rule{.score = ScoreFunction::kSigmoid, .renormalize = false};
  const Routed got = route_all(rule, 3, 1, {0, 1, 2}, {1, 0, 0});
  EXPECT_EQ(got.ids, (Ids{0}));
  EXPECT_EQ(got.weights[0], 0.5f);
}

// A mask of 0 instead of -inf would let expert 0 or 1 of the dropped group in.
TEST(route, negative_keys_of_kept_groups_beat_dropped_groups) {
  const RoutingRule rule{.score = ScoreFunction::kSigmoid, .groups = 2, .groups_kept = 1};
  EXPECT_EQ(route_all(rule, 4, 2, {0, 0, 0, 0}, {-3, -3, -2, -2}).ids, (Ids{2, 3}));
}

TEST(route, minus_inf_in_a_kept_group_beats_dropped_groups) {
  const RoutingRule rule{.groups = 2, .groups_kept = 1, .group_score = GroupScore::kMax};
  const Routed got = route_all(rule, 4, 2, {0, 0, -kInf, 1});
  EXPECT_EQ(got.ids, (Ids{3, 2}));
  EXPECT_EQ(got.weights, (Floats{1, 0}));
}

TEST(route, group_scores_differ_between_max_and_the_two_best) {
  const Floats logits{3, -9, 2, 2};
  RoutingRule rule{.score = ScoreFunction::kSqrtSoftplus, .groups = 2, .groups_kept = 1};
  EXPECT_EQ(route_all(rule, 4, 1, logits).ids, (Ids{2}));
  rule.group_score = GroupScore::kMax;
  EXPECT_EQ(route_all(rule, 4, 1, logits).ids, (Ids{0}));
}

TEST(route, dropped_groups_still_count_in_the_softmax) {
  const RoutingRule rule{.renormalize = false, .groups = 2, .groups_kept = 1, .group_score = GroupScore::kMax};
  EXPECT_EQ(route_all(rule, 4, 1, {0, 0, 0, 0}).weights, (Floats{0.25f}));
}

TEST(route, topk_then_softmax_sums_over_the_chosen) {
  const float l = std::log(3.0f);
  const Routed got = route_all({.score = ScoreFunction::kTopkThenSoftmax, .scale = 4}, 4, 2, {0, -5, l, -kInf});
  EXPECT_EQ(got.ids, (Ids{2, 0}));
  EXPECT_FLOAT_EQ(got.weights[0], 3);
  EXPECT_FLOAT_EQ(got.weights[1], 1);
}

TEST(route, epsilon_enters_the_divisor) {
  const RoutingRule rule{.score = ScoreFunction::kSigmoid, .renormalize_epsilon = 0.5f};
  EXPECT_EQ(route_all(rule, 2, 1, {0, -1}).weights, (Floats{0.5f}));
}

// ---- NaN and infinities ---------------------------------------------------------------------------------------------

TEST(route, one_nan_poisons_its_token_only) {
  for (const ScoreFunction score : {ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus,
                                    ScoreFunction::kTopkThenSoftmax}) {
    for (const float bad : {kNan, -kNan, kInf}) {
      for (std::size_t lane = 0; lane < 5; ++lane) {
        Floats logits{1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
        logits[5 + lane] = bad;
        const Routed got = route_all({.score = score}, 5, 2, logits);
        EXPECT_EQ(got.poisoned, 1);
        EXPECT_EQ(got.ids, (Ids{4, 3, kPoisonedExpert, kPoisonedExpert, 4, 3}));
        EXPECT_TRUE(std::isnan(got.weights[2]) && std::isnan(got.weights[3]));
        EXPECT_FALSE(std::isnan(got.weights[0]) || std::isnan(got.weights[4]));
      }
    }
  }
}

TEST(route, minus_inf_is_chosen_last_with_weight_0) {
  for (const ScoreFunction score : {ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus,
                                    ScoreFunction::kTopkThenSoftmax}) {
    const Routed got = route_all({.score = score}, 4, 3, {-kInf, -1e30f, -kInf, -5});
    EXPECT_EQ(got.ids, (Ids{3, 1, 0}));
    EXPECT_EQ(got.weights, (Floats{1, 0, 0}));
    EXPECT_EQ(got.poisoned, 0);
  }
}

TEST(route, weights_are_0_where_all_chosen_scores_are) {
  for (const ScoreFunction score : {ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus,
                                    ScoreFunction::kTopkThenSoftmax}) {
    const Routed got = route_all({.score = score}, 3, 2, {-kInf, -kInf, -kInf});
    EXPECT_EQ(got.ids, (Ids{0, 1}));
    EXPECT_EQ(got.weights, (Floats{0, 0}));
    EXPECT_EQ(got.poisoned, 0);
  }
}

TEST(route, huge_logits_do_not_overflow) {
  const Routed softmax = route_all({}, 2, 2, {3e38f, -3e38f});
  EXPECT_EQ(softmax.weights, (Floats{1, 0}));
  const Routed softplus = route_all({.score = ScoreFunction::kSqrtSoftplus, .renormalize = false}, 2, 2, {1e30f, -80});
  EXPECT_FLOAT_EQ(softplus.weights[0], 1e15f);
  EXPECT_FLOAT_EQ(softplus.weights[1], static_cast<float>(std::exp(-40.0)));
}

TEST(route, masking_biases_are_legal_and_undefined_ones_refused) {
  EXPECT_EQ(route_all({}, 3, 2, {5, 1, 2}, {-kInf, 0, 0}).ids, (Ids{2, 1}));
  EXPECT_THROW(route_all({}, 3, 2, {5, 1, 2}, {0, kNan, 0}), Error);
  EXPECT_THROW(route_all({}, 3, 2, {5, 1, 2}, {0, kInf, 0}), Error);
}

// ---- Sizes ----------------------------------------------------------------------------------------------------------

TEST(route, no_tokens_is_fine) { EXPECT_EQ(route_all({}, 8, 2, {}).poisoned, 0); }

TEST(route, refuses_sizes_that_do_not_fit) {
  const Floats logits(16);
  Ids ids(4);
  Floats weights(4);
  EXPECT_EQ(route({}, 8, 2, logits, {}, ids, weights), 0);
  EXPECT_THROW(route({}, 7, 2, logits, {}, ids, weights), Error);
  EXPECT_THROW(route({}, 8, 3, logits, {}, ids, weights), Error);
  EXPECT_THROW(route({}, 8, 2, logits, {}, std::span(ids).first(3), weights), Error);
  EXPECT_THROW(route({}, 8, 2, logits, {}, ids, std::span(weights).first(3)), Error);
  EXPECT_THROW(route({}, 8, 2, logits, Floats(7), ids, weights), Error);
}

}  // namespace
}  // namespace megamoe
