// What holds for any input, over random ones that shrink to a small counterexample.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "megamoe/routing.h"

namespace megamoe {
namespace {

RC_GTEST_PROP(order_rows_property, row_of_and_choice_of_are_inverse, ()) {
  const auto experts = *rc::gen::inRange<std::int32_t>(1, 40);
  const auto ids =
      *rc::gen::container<std::vector<std::int32_t>>(rc::gen::inRange<std::int32_t>(kPoisonedExpert, experts));
  std::vector<std::int64_t> row_begin(static_cast<std::size_t>(experts) + 1);
  std::vector<std::int64_t> row_of(ids.size());
  std::vector<std::int64_t> choice_of(ids.size());
  order_rows(ids, experts, row_begin, row_of, choice_of);

  RC_ASSERT(row_begin.front() == 0);
  std::int64_t rows = 0;
  for (std::size_t choice = 0; choice < ids.size(); ++choice) {
    if (ids[choice] < 0) {
      RC_ASSERT(row_of[choice] == -1);
      continue;
    }
    ++rows;
    const std::int64_t row = row_of[choice];
    const auto expert = static_cast<std::size_t>(ids[choice]);
    RC_ASSERT(row_begin[expert] <= row && row < row_begin[expert + 1]);
    RC_ASSERT(choice_of[static_cast<std::size_t>(row)] == static_cast<std::int64_t>(choice));
  }
  RC_ASSERT(row_begin.back() == rows);
  for (std::size_t e = 0; e < static_cast<std::size_t>(experts); ++e) {
    RC_ASSERT(row_begin[e] <= row_begin[e + 1]);
    for (std::int64_t row = row_begin[e] + 1; row < row_begin[e + 1]; ++row) {  // token order inside an expert
      RC_ASSERT(choice_of[static_cast<std::size_t>(row - 1)] < choice_of[static_cast<std::size_t>(row)]);
    }
  }
}

RC_GTEST_PROP(route_property, distinct_experts_of_few_groups_whose_weights_sum_to_scale, ()) {
  const auto group_size = *rc::gen::inRange<std::int64_t>(2, 9);
  const auto groups = *rc::gen::inRange<std::int64_t>(1, 9);
  const auto groups_kept = *rc::gen::inRange<std::int64_t>(1, groups + 1);
  const auto top_k = *rc::gen::inRange<std::int64_t>(1, group_size * groups_kept + 1);
  const std::int64_t experts = groups * group_size;
  const RoutingRule rule{.score = *rc::gen::element(ScoreFunction::kSoftmax, ScoreFunction::kSigmoid,
                                                    ScoreFunction::kSqrtSoftplus, ScoreFunction::kTopkThenSoftmax),
                         .scale = *rc::gen::element(1.0f, 2.5f, 16.0f),
                         .groups = groups,
                         .groups_kept = groups_kept,
                         .group_score = *rc::gen::element(GroupScore::kMax, GroupScore::kTop2Sum)};
  // Quarters in [-16, 16): ties are frequent, scores never vanish.
  const auto small = rc::gen::map(rc::gen::inRange(-64, 64), [](int v) { return 0.25f * static_cast<float>(v); });
  const auto logits = *rc::gen::container<std::vector<float>>(static_cast<std::size_t>(experts), small);
  const auto biased = *rc::gen::arbitrary<bool>();
  const auto bias = *rc::gen::container<std::vector<float>>(static_cast<std::size_t>(biased ? experts : 0), small);

  std::vector<std::int32_t> ids(static_cast<std::size_t>(top_k));
  std::vector<float> weights(static_cast<std::size_t>(top_k));
  RC_ASSERT(route(rule, experts, top_k, logits, bias, ids, weights) == 0);

  RC_ASSERT(std::set<std::int32_t>(ids.begin(), ids.end()).size() == ids.size());
  std::set<std::int64_t> used;
  for (const std::int32_t id : ids) {
    RC_ASSERT(id >= 0 && id < experts);
    used.insert(id / group_size);
  }
  RC_ASSERT(static_cast<std::int64_t>(used.size()) <= groups_kept);
  for (const float weight : weights) RC_ASSERT(weight >= 0.0f);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  // Each weight is rounded once, by at most half an f32 step of itself.
  RC_ASSERT(std::fabs(sum - static_cast<double>(rule.scale)) <= static_cast<double>(rule.scale) * 0x1p-24);
}

RC_GTEST_PROP(route_property, a_token_is_routed_alike_in_any_batch, ()) {
  const std::int64_t experts = 12;
  const std::int64_t top_k = 4;
  const RoutingRule rule{.score = ScoreFunction::kSigmoid, .groups = 4, .groups_kept = 2};
  const auto tokens = *rc::gen::inRange<std::size_t>(1, 6);
  const auto draw = rc::gen::map(rc::gen::inRange(-30, 31), [](int v) { return static_cast<float>(v); });
  const auto logits = *rc::gen::container<std::vector<float>>(tokens * 12, draw);
  std::vector<std::int32_t> ids(tokens * 4);
  std::vector<float> weights(tokens * 4);
  route(rule, experts, top_k, logits, {}, ids, weights);
  for (std::size_t t = 0; t < tokens; ++t) {
    std::vector<std::int32_t> id(4);
    std::vector<float> weight(4);
    route(rule, experts, top_k, std::span(logits).subspan(t * 12, 12), {}, id, weight);
    RC_ASSERT(std::equal(id.begin(), id.end(), ids.begin() + static_cast<std::ptrdiff_t>(t * 4)));
    RC_ASSERT(std::equal(weight.begin(), weight.end(), weights.begin() + static_cast<std::ptrdiff_t>(t * 4)));
  }
}

}  // namespace
}  // namespace megamoe
