#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <set>

#include "bench/layer_timer.h"
#include "bench/model_shapes.h"
#include "bench/new_pages.h"
#include "bench/oracle_check.h"
#include "bench/random_bits.h"
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

// Large matrices are made in pieces: the words are those of one pass.
TEST(synthetic, a_matrix_is_one_sequence_of_words) {
  RandomBits skipped(9);
  RandomBits called(9);
  skipped.skip(1000);
  for (int i = 0; i < 1000; ++i) called.next();
  EXPECT_EQ(skipped.next(), called.next());

  const Problem problem = parse_problem("h=2048 i=1040 e=1 k=1");  // more than one piece, and a part of one
  ExpertScratch scratch;
  const ExpertView expert = SyntheticSource(problem, 1).expert(0, scratch);
  const std::size_t codes = 2048 * 1040 / 2;
  std::vector<std::uint64_t> words(codes / 8);
  std::memcpy(words.data(), expert.gate.data, codes);
  EXPECT_EQ(std::set<std::uint64_t>(words.begin(), words.end()).size(), words.size()) << "a piece came twice";
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

TEST(routes, come_back_from_their_text_and_refuse_others) {
  for (const char* text : {"uniform", "skew", "dropped", "zipf:1", "zipf:0.5"})
    EXPECT_EQ(parse_route(text).to_string(), text);
  for (const char* text : {"", "zipf", "zipf:", "zipf:x", "zipf:1x", "zipf:-1", "zipf:nan", "even"})
    EXPECT_THROW(parse_route(text), Error) << text;
}

// The first choice has probabilities p(r) = (r + 1)^-s / sum over all ranks; the counts of n tokens lie within
// 5 sqrt(n p) of n p. Which expert has which rank is found by counting.
TEST(routes, zipf_chooses_first_by_rank_to_the_power) {
  const Problem problem = parse_problem("h=16 i=16 e=12 k=1");
  constexpr std::int64_t kTokens = 40'000;
  for (const double exponent : {0.0, 1.0, 1.5}) {
    const Tokens tokens = random_tokens(problem, kTokens, parse_route("zipf:" + std::to_string(exponent)), 3);
    std::vector<double> counts(12);
    for (const std::int32_t id : tokens.topk_ids) counts[static_cast<std::size_t>(id)] += 1;
    std::sort(counts.rbegin(), counts.rend());
    double sum = 0.0;
    for (int r = 1; r <= 12; ++r) sum += std::pow(r, -exponent);
    for (int r = 1; r <= 12; ++r) {
      const double want = kTokens * std::pow(r, -exponent) / sum;
      EXPECT_NEAR(counts[static_cast<std::size_t>(r - 1)], want, 5 * std::sqrt(want)) << exponent << " rank " << r;
    }
  }
}

TEST(routes, zipf_chooses_distinct_experts_and_the_same_popular_ones_in_every_batch) {
  const Problem problem = parse_problem("h=16 i=16 e=40 k=6");
  std::set<std::size_t> popular;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Tokens tokens = random_tokens(problem, 2000, parse_route("zipf:1.5"), seed);
    std::vector<int> counts(40);
    for (std::size_t t = 0; t < 2000; ++t) {
      const auto at = tokens.topk_ids.begin() + static_cast<std::ptrdiff_t>(6 * t);
      const std::set<std::int32_t> ids(at, at + 6);
      ASSERT_EQ(ids.size(), 6u) << "token " << t;
      for (const std::int32_t id : ids) ++counts.at(static_cast<std::size_t>(id));
    }
    popular.insert(static_cast<std::size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin()));
  }
  EXPECT_EQ(popular.size(), 1u);
}

// Rows of each expert of a batch, in ascending order: what its name has no part in.
std::vector<std::ptrdiff_t> loads(const Tokens& tokens, std::int64_t experts) {
  std::vector<std::ptrdiff_t> all;
  for (std::int32_t e = 0; e < experts; ++e)
    all.push_back(std::count(tokens.topk_ids.begin(), tokens.topk_ids.end(), e));
  std::sort(all.begin(), all.end());
  return all;
}

TEST(rotation, uses_every_expert_before_it_comes_back_to_one) {
  const Problem problem = parse_problem("h=16 i=16 e=64 k=4");
  ASSERT_EQ(batches_of_a_round(problem, 1), 16);
  EXPECT_EQ(batches_of_a_round(problem, 1000), 4);
  std::vector<Tokens> batches;
  for (std::uint64_t seed = 0; seed < 16; ++seed)
    batches.push_back(random_tokens(problem, 1, RouteKind::kUniform, seed));
  rotate_experts(problem, batches);
  std::set<std::int32_t> used;
  for (const Tokens& batch : batches) used.insert(batch.topk_ids.begin(), batch.topk_ids.end());
  EXPECT_EQ(used.size(), 64u);
}

TEST(rotation, keeps_how_many_rows_the_experts_of_a_batch_have) {
  const Problem problem = parse_problem("h=16 i=16 e=20 k=3");
  std::vector<Tokens> batches;
  for (std::uint64_t seed = 0; seed < 5; ++seed)
    batches.push_back(random_tokens(problem, 9, RouteKind::kDropped, seed));
  const std::vector<Tokens> before = batches;
  rotate_experts(problem, batches);
  for (std::size_t b = 0; b < batches.size(); ++b) {
    EXPECT_EQ(loads(batches[b], 20), loads(before[b], 20));
    for (std::size_t i = 0; i < batches[b].topk_ids.size(); ++i)
      EXPECT_EQ(batches[b].topk_ids[i] < 0, before[b].topk_ids[i] < 0);
  }
}

TEST(new_pages, are_zero_and_refused_with_their_size) {
  const NewPages pages(100'000);
  ASSERT_EQ(pages.bytes().size(), 100'000u);
  EXPECT_TRUE(std::ranges::all_of(pages.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  pages.bytes().back() = std::byte{1};
  try {
    const NewPages too_many(std::size_t{1} << 60);
    ADD_FAILURE() << "got them";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kOutOfMemory);
    EXPECT_STREQ(error.what(), "memory for a measurement: asked 1152921504606846976 bytes, the system refused");
  }
}

TEST(read_probe, reads_at_a_rate_that_a_memory_can_have) {
  ReadProbe probe(std::size_t{64} << 20, 2);
  const double rate = probe.read_once();
  EXPECT_GT(rate, 1e8);
  EXPECT_LT(rate, 1e13);
}

TEST(compute_probe, multiplies_at_rates_that_a_processor_can_have) {
  const ComputeProbe probe(2);
  for (const double rate : {probe.int8_once(), probe.bf16_once()}) {
    if (rate == 0.0) continue;  // no such instruction here
    EXPECT_GT(rate, 1e8);
    EXPECT_LT(rate, 1e16);
  }
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

// Every activation format, a shared expert, and more experts than tokens that are judged.
TEST(oracle_check, judges_a_sample_of_a_batch_like_the_whole) {
  for (const char* text : {"h=64 i=32 e=9 k=2 a=bf16 shared=32:bf16", "h=64 i=32 e=9 k=2 a=nvfp4 shared=48:nvfp4:gated",
                           "h=64 i=80 e=9 k=2 a=int8"}) {
    const Problem problem = parse_problem(text);
    const SyntheticSource source(problem, 1);
    const Tokens tokens = random_tokens(problem, 50, RouteKind::kDropped, 1);
    const Plan plan(prepare(problem, source, {.backend = "reference"}), {.max_tokens = 50});
    const SampleCheck right = check_sample_with_oracle(plan, source, tokens, 7);
    EXPECT_TRUE(right.check.passed()) << text << ": " << right.check.first_fault();
    EXPECT_EQ(right.judged, 7);
    EXPECT_EQ(right.check.output.elements, 7 * 64);
    EXPECT_EQ(right.output.size(), tokens.x.size());
    const SampleCheck wrong = check_sample_with_oracle(plan, SyntheticSource(problem, 2), tokens, 7);
    EXPECT_NE(wrong.check.first_fault().find("judged alone"), std::string::npos) << wrong.check.first_fault();
    EXPECT_EQ(check_sample_with_oracle(plan, source, tokens, 1000).judged, 50);
  }
}

TEST(floor, is_the_longer_one_of_reading_and_multiplying) {
  Measurement m{.weight_bytes = 6e9, .flops = 8e12};
  EXPECT_EQ(m.floor_s(), 0.0);
  m.read_bytes_per_s = 3e12;
  EXPECT_DOUBLE_EQ(m.floor_s(), 2e-3);
  m.peak_flops_per_s = 8e14;
  EXPECT_DOUBLE_EQ(m.floor_s(), 1e-2);
  m.weight_bytes = 6e10;
  EXPECT_DOUBLE_EQ(m.floor_s(), 2e-2);
}

// Shares are those of each round to its own readings of the probes.
TEST(layer_timer, gives_shares_and_stages) {
  const Problem problem = parse_problem("h=64 i=32 e=4 k=2 a=int8");
  const SyntheticSource source(problem, 1);
  const std::vector<Tokens> batches{random_tokens(problem, 2, RouteKind::kUniform, 1)};
  const Plan plan(prepare(problem, source, {.backend = "auto", .threads = 1}), {.max_tokens = 2, .threads = 1});
  ReadProbe read(std::size_t{64} << 20, 1);
  const ComputeProbe compute(1);
  const Measurement m =
      measure_layer(plan, batches, {.read = &read, .compute = &compute}, {.seconds = 0.01, .rounds = 3});
  EXPECT_GT(m.read_bytes_per_s, 0.0);
  EXPECT_GT(m.read_share, 0.0);
  EXPECT_EQ(m.peak_flops_per_s, m.int8_ops_per_s);
  EXPECT_EQ(m.peak_share > 0.0, m.int8_ops_per_s > 0.0);
  double sum = 0.0;
  for (const StageTime& stage : m.stages) sum += stage.median_s;
  EXPECT_LE(sum, m.p90_s * 2);
  EXPECT_DOUBLE_EQ(gemm_share("gemm 1 and activation") + gemm_share("gemm 2"), 1.0);
  EXPECT_EQ(gemm_share("combine"), 0.0);
}

TEST(layer_timer, measures_every_batch_in_turn) {
  const Problem problem = parse_problem("h=64 i=32 e=4 k=2");
  const SyntheticSource source(problem, 1);
  std::vector<Tokens> batches;
  for (std::uint64_t seed = 1; seed <= 3; ++seed)
    batches.push_back(random_tokens(problem, 2, RouteKind::kUniform, seed));
  const Plan plan(prepare(problem, source), {.max_tokens = 2});
  const Measurement m = measure_layer(plan, batches, {}, {.seconds = 0.01, .rounds = 3});
  EXPECT_GE(m.repeats + m.dropped, 3);
  EXPECT_GE(m.repeats, 1);
  EXPECT_GT(m.min_s, 0.0);
  EXPECT_GE(m.median_s, m.min_s);
  EXPECT_DOUBLE_EQ(m.flops, 2.0 * 3 * 64 * 32 * 4);
  EXPECT_EQ(m.read_bytes_per_s, 0.0);
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_LE(m.p10_s, m.median_s);
  EXPECT_GE(m.p90_s, m.median_s);
  EXPECT_EQ(m.token_bytes, 2 * (64 * 2 * 2 + 2 * 8));
  EXPECT_DOUBLE_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_DOUBLE_EQ(quantile({5, 1, 2, 3, 4}, 0.25), 2);
  EXPECT_DOUBLE_EQ(quantile({10, 20}, 0.9), 19);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.1), 7);
}

}  // namespace
}  // namespace megamoe::bench
