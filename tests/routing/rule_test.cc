#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

std::string refusal(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k) {
  try {
    validate(rule, experts, top_k);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(rule, prints_every_part_that_is_not_default) {
  EXPECT_EQ(RoutingRule{}.to_string(), "softmax renorm");
  EXPECT_EQ(
      (RoutingRule{
          .score = ScoreFunction::kSigmoid, .renormalize_epsilon = 1e-20f, .scale = 2.5f, .groups = 8, .groups_kept = 4}
           .to_string()),
      "sigmoid groups 4/8 top2 renorm+1e-20 x2.5");
  EXPECT_EQ((RoutingRule{.score = ScoreFunction::kSoftmax,
                         .renormalize = false,
                         .scale = 16,
                         .groups = 8,
                         .groups_kept = 3,
                         .group_score = GroupScore::kMax}
                 .to_string()),
            "softmax groups 3/8 max x16");
  EXPECT_EQ((RoutingRule{.score = ScoreFunction::kTopkThenSoftmax, .round_logits_to_bf16 = true}.to_string()),
            "topk-then-softmax renorm bf16-logits");
  EXPECT_EQ((RoutingRule{.score = ScoreFunction::kSqrtSoftplus}.to_string()), "sqrtsoftplus renorm");
}

TEST(rule, accepts_the_corners) {
  EXPECT_EQ(refusal({}, 1, 1), "");
  EXPECT_EQ(refusal({}, 512, 512), "");
  EXPECT_EQ(refusal({.groups = 8, .groups_kept = 1}, 256, 32), "");
  EXPECT_EQ(refusal({.groups = 4, .groups_kept = 2, .group_score = GroupScore::kMax}, 4, 2), "");
  EXPECT_EQ(refusal({.groups = 4, .groups_kept = 4}, 4, 4), "");  // no group is dropped, so none needs a score
}

TEST(rule, refuses_with_asked_and_accepted) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(refusal({}, 0, 1), "experts: asked 0, accepted: at least 1");
  EXPECT_EQ(refusal({}, 8, 0), "top_k: asked 0, accepted: 1 to 8 (the experts)");
  EXPECT_EQ(refusal({}, 8, 9), "top_k: asked 9, accepted: 1 to 8 (the experts)");
  EXPECT_EQ(refusal({.groups = 3}, 8, 2), "groups: asked 3, accepted: divisors of 8 (the experts)");
  EXPECT_EQ(refusal({.groups = 0}, 8, 2), "groups: asked 0, accepted: divisors of 8 (the experts)");
  EXPECT_EQ(refusal({.groups = 4, .groups_kept = 5}, 8, 2), "groups_kept: asked 5, accepted: 1 to 4 (the groups)");
  EXPECT_EQ(refusal({.groups = 4, .groups_kept = 0}, 8, 2), "groups_kept: asked 0, accepted: 1 to 4 (the groups)");
  EXPECT_EQ(refusal({.groups = 4, .groups_kept = 1}, 8, 3),
            "top_k: asked 3, accepted: 1 to 2 (the experts of 1 kept groups)");
  EXPECT_EQ(refusal({.groups = 8, .groups_kept = 4}, 8, 3),
            "groups: asked 8 of 1 expert each, accepted: at least 2 experts a group where a group's score is the sum "
            "of its two best");
  EXPECT_EQ(refusal({.scale = kInf}, 8, 2), "scale: asked inf, accepted: a finite number");
  EXPECT_EQ(refusal({.renormalize_epsilon = -1}, 8, 2),
            "renormalize_epsilon: asked -1, accepted: a finite number of at least 0");
  EXPECT_NE(refusal({.renormalize_epsilon = std::nanf("")}, 8, 2), "");
}

}  // namespace
}  // namespace megamoe
