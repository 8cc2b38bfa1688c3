// Inputs with a single 1 return single weights, so that any permutation, offset or swizzle error names its place.
#include <gtest/gtest.h>

#include "oracle/layer.h"
#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

class one_hot : public ::testing::TestWithParam<const char*> {};

// Token t holds a 1 at column t % hidden alone: G and U are one weight each, and their bound is tiny.
TEST_P(one_hot, every_gate_and_up_column_is_where_it_belongs) {
  Case c = make_case(parse_test_problem(GetParam()));
  const std::int64_t hidden = c.test.problem.hidden;
  std::fill(c.x.begin(), c.x.end(), std::uint16_t{0});
  for (std::int64_t t = 0; t < c.test.tokens; ++t)
    c.x[static_cast<std::size_t>(t * hidden + t % hidden)] = to_bf16(1.0);
  for_each_backend(c.test.problem, [&](std::string_view backend) { check_case(c, backend, Trust::kJustBound); });
}

INSTANTIATE_TEST_SUITE_P(formats, one_hot,
                         ::testing::Values("t=160 h=80 i=48 e=3 k=1 w=nvfp4 a=bf16",
                                           "t=160 h=80 i=48 e=3 k=1 w=nvfp4 a=nvfp4",
                                           "t=160 h=80 i=48 e=3 k=1 w=nvfp4 a=int8",
                                           "t=160 h=80 i=48 e=3 k=1 w=bf16 a=bf16"));

// Gate 32 on the diagonal, up 1 there: token i's intermediate is 32 at i alone (sigmoid(32) is 1 in fp32), and its
// output is 32 times column i of down. Global scales are 1, so nothing rounds: E2M1 x E4M3 is exact in bf16.
TEST(one_hot, every_down_column_is_where_it_belongs) {
  constexpr std::int64_t kHidden = 80, kInter = 48;
  Random random(5);
  Case c;
  c.test = parse_test_problem("t=48 h=80 i=48 e=3 k=1 w=nvfp4 a=bf16");
  for (int e = 0; e < 3; ++e) {
    OwnedExpert expert;
    expert.gate = OwnedMatrix::zeros(WeightFormat::kNvfp4, kInter, kHidden);
    expert.up = OwnedMatrix::zeros(WeightFormat::kNvfp4, kInter, kHidden);
    for (std::int64_t i = 0; i < kInter; ++i) {
      expert.gate.set_code(i, i, 4);      // 2
      expert.gate.set_scale(i, i, 0x58);  // 16
      expert.up.set_code(i, i, 2);        // 1
      expert.up.set_scale(i, i, 0x38);    // 1
    }
    expert.down = random_matrix(WeightFormat::kNvfp4, kHidden, kInter, 1.0, random);
    expert.down.global_scale = 1.0f;
    c.weights.experts.push_back(std::move(expert));
  }
  c.x.resize(static_cast<std::size_t>(kInter * kHidden));
  for (std::int64_t t = 0; t < kInter; ++t) {
    c.x[static_cast<std::size_t>(t * kHidden + t)] = to_bf16(1.0);
    c.ids.push_back(static_cast<std::int32_t>(t % 3));
    c.topk_weights.push_back(1.0f);
  }
  const oracle::Layer layer = to_oracle(c.test.problem, c.weights);
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Result run = run_case(c, backend);
    for (std::int64_t t = 0; t < kInter; ++t) {
      const std::vector<double> down = oracle::decode(layer.experts[static_cast<std::size_t>(t % 3)].down);
      for (std::int64_t n = 0; n < kHidden; ++n)
        ASSERT_EQ(from_bf16(run.bf16[static_cast<std::size_t>(t * kHidden + n)]),
                  32.0 * down[static_cast<std::size_t>(n * kInter + t)])
            << "down row " << n << ", column " << t << ", expert " << t % 3;
    }
  });
}

}  // namespace
}  // namespace megamoe::test
