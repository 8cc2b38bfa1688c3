// Routing at its extremes, and NaN or Inf in some tokens: the other tokens' bits do not change.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

class routing_extremes : public ::testing::TestWithParam<const char*> {};

bool bad_token(std::int64_t token) { return token % 4 == 2; }

TEST_P(routing_extremes, nan_in_one_token_stays_in_it) {
  const Case good = make_case(parse_test_problem(std::string("t=37 h=80 i=48 e=3 k=2 ") + GetParam()));
  const std::int64_t hidden = good.test.problem.hidden;
  for (const double bad_value : {std::nan(""), -std::nan(""), std::numeric_limits<double>::infinity()}) {
    Case bad = good;
    for (std::int64_t t = 0; t < bad.test.tokens; ++t)
      if (bad_token(t)) bad.x[static_cast<std::size_t>(t * hidden + t * 7 % hidden)] = to_bf16(bad_value);
    for_each_backend(good.test.problem, [&](std::string_view backend) {
      const Layer layer(good, backend, good.test.tokens);
      const Result want = layer.run(good);
      const Result got = layer.run(bad);
      for (std::int64_t t = 0; t < good.test.tokens; ++t)
        for (std::int64_t c = 0; c < hidden; ++c) {
          const auto at = static_cast<std::size_t>(t * hidden + c);
          if (!bad_token(t)) {
            ASSERT_EQ(got.bf16[at], want.bf16[at]) << "token " << t << ", col " << c;
          } else if (std::isnan(bad_value)) {
            ASSERT_TRUE(std::isnan(from_bf16(got.bf16[at]))) << "token " << t << ", col " << c;
          }
        }
    });
  }
}

TEST_P(routing_extremes, poisoned_tokens_are_nan_and_change_no_other) {
  const Case good = make_case(parse_test_problem(std::string("t=37 h=80 i=48 e=3 k=2 ") + GetParam()));
  Case bad = good;
  for (std::int64_t t = 0; t < bad.test.tokens; ++t)
    if (bad_token(t)) {
      bad.ids[static_cast<std::size_t>(2 * t)] = bad.ids[static_cast<std::size_t>(2 * t + 1)] = -2;
      bad.topk_weights[static_cast<std::size_t>(2 * t)] = std::numeric_limits<float>::quiet_NaN();
    }
  const std::int64_t hidden = good.test.problem.hidden;
  for_each_backend(good.test.problem, [&](std::string_view backend) {
    const Layer layer(good, backend, good.test.tokens);
    const Result want = layer.run(good);
    const Result got = layer.run(bad);
    for (std::int64_t t = 0; t < good.test.tokens; ++t)
      for (std::int64_t c = 0; c < hidden; ++c) {
        const auto at = static_cast<std::size_t>(t * hidden + c);
        if (bad_token(t)) {
          ASSERT_TRUE(std::isnan(from_bf16(got.bf16[at]))) << "token " << t << ", col " << c;
        } else {
          ASSERT_EQ(got.bf16[at], want.bf16[at]) << "token " << t << ", col " << c;
        }
      }
  });
}

// A dropped choice counts as nothing, whatever its weight says.
TEST_P(routing_extremes, the_weight_of_a_dropped_choice_is_not_read) {
  Case c = make_case(parse_test_problem(std::string("t=9 route=dropped h=80 i=48 e=3 k=2 ") + GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Result want = run_case(c, backend);
    Case nan = c;
    for (std::size_t i = 0; i < nan.ids.size(); ++i)
      if (nan.ids[i] == -1) nan.topk_weights[i] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(run_case(nan, backend).bf16, want.bf16);
  });
}

INSTANTIATE_TEST_SUITE_P(formats, routing_extremes,
                         ::testing::Values("w=nvfp4 a=bf16", "w=nvfp4 a=nvfp4", "w=nvfp4 a=int8", "w=bf16 a=bf16",
                                           "w=nvfp4 a=nvfp4 limit=10 topk=before",
                                           "w=nvfp4 a=int8 act=oai limit=7 bias shared=48:nvfp4:gated"));

TEST(routing_extremes, all_dropped_without_a_shared_expert_is_zero) {
  const Case c = make_case(parse_test_problem("t=9 route=all_dropped h=64 i=48 e=3 k=2 w=nvfp4 a=nvfp4"));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    for (const std::uint16_t bits : run_case(c, backend).bf16) ASSERT_EQ(bits, 0);
  });
}

TEST(routing_extremes, duplicates_count_as_often_as_they_stand) {
  Case twice = make_case(parse_test_problem("t=5 route=one h=64 i=48 e=3 k=2 w=nvfp4 a=bf16"));
  Case once = twice;
  for (std::size_t i = 0; i < twice.ids.size(); i += 2) {
    twice.topk_weights[i] = twice.topk_weights[i + 1] = 0.25f;
    once.topk_weights[i] = 0.5f;
    once.ids[i + 1] = -1;
  }
  for_each_backend(twice.test.problem, [&](std::string_view backend) {
    EXPECT_EQ(run_case(twice, backend).bf16, run_case(once, backend).bf16);  // w y + w y = 2 w y, exactly
  });
}

}  // namespace
}  // namespace megamoe::test
