#include <gtest/gtest.h>

#include <set>

#include "bench/layer_timer.h"
#include "bench/model_shapes.h"
#include "bench/oracle_check.h"
#include "bench/synthetic.h"
#include "megamoe/error.h"

namespace megamoe::bench {
namespace {

TEST(model_shapes, are_valid_problems_with_distinct_names) {
  const std::vector<std::string> names = shape_names();
  EXPECT_GE(names.size(), 12u);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) EXPECT_NO_THROW(validate(shape_problem(name, {}))) << name;
  EXPECT_EQ(shape_problem("deepseek-v3", {.shared = true}).shared.inter, 2048);
  EXPECT_EQ(shape_problem("deepseek-v4-flash", {.experts = 16, .activations = ActivationFormat::kInt8}),
            parse_problem("h=4096 i=2048 e=16 k=6 limit=10 a=int8"));
}

TEST(model_shapes, refuse_unknown_names_and_too_few_experts) {
  EXPECT_THROW(shape_problem("deepseek", {}), Error);
  EXPECT_THROW(shape_problem("deepseek-v3", {.experts = 7}), Error);
  EXPECT_THROW(shape_problem("mixtral-8x7b", {.shared = true}), Error);
}

TEST(synthetic, an_expert_depends_on_seed_and_index_alone) {
  const Problem problem = parse_problem("h=64 i=48 e=3 k=2");
  const SyntheticSource source(problem, 1);
  ExpertScratch a;
  ExpertScratch b;
  ExpertScratch other;
  source.expert(0, b);
  const ExpertView first = source.expert(1, a);
  const ExpertView again = SyntheticSource(problem, 1).expert(1, b);
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(first.up.global_scale, again.up.global_scale);
  EXPECT_NE(first.up.global_scale, first.gate.global_scale);
  source.expert(2, other);
  EXPECT_NE(a.bytes, other.bytes);
  SyntheticSource(problem, 2).expert(1, other);
  EXPECT_NE(a.bytes, other.bytes);
}

TEST(synthetic, tokens_choose_distinct_experts_with_weights_that_sum_to_one) {
  const Problem problem = parse_problem("h=64 i=32 e=9 k=4");
  for (const RouteKind route : {RouteKind::kUniform, RouteKind::kSkew}) {
    const Tokens tokens = random_tokens(problem, 200, route, 3);
    std::set<std::int32_t> used;
    for (std::size_t t = 0; t < 200; ++t) {
      const std::set<std::int32_t> ids(tokens.topk_ids.begin() + static_cast<std::ptrdiff_t>(4 * t),
                                       tokens.topk_ids.begin() + static_cast<std::ptrdiff_t>(4 * t + 4));
      EXPECT_EQ(ids.size(), 4u);
      EXPECT_GE(*ids.begin(), 0);
      EXPECT_LT(*ids.rbegin(), 9);
      used.insert(ids.begin(), ids.end());
      float sum = 0.0f;
      for (std::size_t j = 0; j < 4; ++j) sum += tokens.topk_weights[4 * t + j];
      EXPECT_NEAR(sum, 1.0f, 1e-5f);
    }
    EXPECT_EQ(used.size(), route == RouteKind::kSkew ? 4u : 9u);
    EXPECT_EQ(active_experts(problem, tokens.topk_ids), static_cast<std::int64_t>(used.size()));
  }
}

TEST(synthetic, counts_bytes_and_operations) {
  const Problem problem = parse_problem("h=64 i=32 e=4 k=2 shared=16:bf16");
  const std::vector<std::int32_t> ids{0, 3, -1, 3};
  EXPECT_EQ(expert_bytes(problem), 3 * 64 * 32 * 9 / 16);
  EXPECT_EQ(read_bytes(problem, ids, 2), 2.0 * 3 * 64 * 32 * 9 / 16 + 3 * 64 * 16 * 2);
  EXPECT_EQ(layer_flops(problem, ids, 2), 2.0 * 3 * 64 * (3 * 32 + 2 * 16));
}

TEST(read_probe, reads_at_a_rate_that_a_memory_can_have) {
  ReadProbe probe(std::size_t{64} << 20, 2);
  const double rate = probe.read_once();
  EXPECT_GT(rate, 1e8);
  EXPECT_LT(rate, 1e13);
}

TEST(oracle_check, passes_the_reference_and_fails_it_on_other_weights) {
  const Problem problem = parse_problem("h=64 i=32 e=4 k=2 a=nvfp4");
  const SyntheticSource source(problem, 1);
  const Tokens tokens = random_tokens(problem, 5, RouteKind::kUniform, 1);
  const Plan plan(prepare(problem, source, {.backend = "reference"}), {.max_tokens = 5});
  const OracleCheck right = check_with_oracle(plan, source, tokens);
  EXPECT_TRUE(right.passed()) << right.first_fault();
  EXPECT_EQ(right.output.elements, 5 * 64);
  const OracleCheck wrong = check_with_oracle(plan, SyntheticSource(problem, 2), tokens);
  EXPECT_FALSE(wrong.passed());
  EXPECT_FALSE(wrong.first_fault().empty());
}

TEST(layer_timer, measures_every_batch_in_turn) {
  const Problem problem = parse_problem("h=64 i=32 e=4 k=2");
  const SyntheticSource source(problem, 1);
  std::vector<Tokens> batches;
  for (std::uint64_t seed = 1; seed <= 3; ++seed)
    batches.push_back(random_tokens(problem, 2, RouteKind::kUniform, seed));
  const Plan plan(prepare(problem, source), {.max_tokens = 2});
  const Measurement m = measure_layer(plan, batches, nullptr, {.seconds = 0.01, .rounds = 3});
  EXPECT_GE(m.repeats, 3);
  EXPECT_GT(m.min_s, 0.0);
  EXPECT_GE(m.median_s, m.min_s);
  EXPECT_DOUBLE_EQ(m.flops, 2.0 * 3 * 64 * 32 * 4);
  EXPECT_EQ(m.read_bytes_per_s, 0.0);
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(median({4, 1, 2, 3}), 2.5);
}

}  // namespace
}  // namespace megamoe::bench
