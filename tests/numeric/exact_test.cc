// Exact inputs: the fp32 output has no error at all, and all backends give equal bits in every stage.
#include <gtest/gtest.h>

#include "bench/to_oracle.h"
#include "oracle/check_output.h"
#include "oracle/quantise.h"
#include "support/each_backend.h"
#include "support/exact_case.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

class exact : public ::testing::TestWithParam<const char*> {};

void expect_equal(const Intermediate::Rows& got, const Intermediate::Rows& want) {
  EXPECT_EQ(got.bf16, want.bf16);
  EXPECT_EQ(got.codes, want.codes);
  EXPECT_EQ(got.sf, want.sf);
  EXPECT_EQ(got.global_scale, want.global_scale);
  EXPECT_EQ(got.int8, want.int8);
  EXPECT_EQ(got.int8_scale, want.int8_scale);
}

// What two_stages can not ask of random inputs: the second GEMM's input is known exactly, so each of its codes is, ties
// included.
void expect_exact_intermediate(const oracle::Layer& layer, const Case& c, const Result& got) {
  const oracle::Expected expected = oracle::gemm1(layer, to_oracle(c));
  const oracle::Rows rows = bench::to_oracle(got.intermediate).routed;
  for (std::size_t choice = 0; choice < c.ids.size(); ++choice) {
    if (c.ids[choice] < 0) continue;
    std::vector<double> h;
    for (const oracle::Bounded& a : expected.routed[choice].values) h.push_back(a.value);
    const double scale = layer.experts[static_cast<std::size_t>(c.ids[choice])].down_input_scale;
    ASSERT_EQ(oracle::decode(rows, got.intermediate.row_of[choice]),
              oracle::quantise(layer.activations, h, layer.static_scale ? scale : 0.0))
        << "choice " << choice;
  }
}

TEST_P(exact, no_error_and_equal_bits) {
  const Case c = make_exact_case(GetParam());
  const TwoStages stages(c);
  const oracle::Layer layer = to_oracle(c.test.problem, c.weights);
  const Result want = run_case(c, "reference", {.f32 = true, .intermediate = true});
  const Result want_bf16 = run_case(c, "reference");
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Result got = run_case(c, backend, {.f32 = true, .intermediate = true});
    stages.check(got, backend, Trust::kJustBound);
    expect_exact_intermediate(layer, c, got);
    const oracle::Report sums = oracle::check_output(layer, to_oracle(c), bench::to_oracle(got.intermediate),
                                                     oracle::OutputType::kF32, got.as_doubles());
    EXPECT_EQ(sums.worst_share, 0.0) << "an exact sum came out rounded";
    EXPECT_LT(4 * sums.zeros, sums.elements);
    expect_equal(got.intermediate.routed, want.intermediate.routed);
    expect_equal(got.intermediate.shared, want.intermediate.shared);
    EXPECT_EQ(got.f32, want.f32);
    EXPECT_EQ(run_case(c, backend).bf16, want_bf16.bf16);
  });
}

// Exact in double means: the intermediate holds G * U and nothing else, so its values are known without any oracle.
TEST(exact, the_intermediate_of_bf16_is_the_product_of_two_weights) {
  const Case c = make_exact_case("t=3 h=128 i=48 e=2 k=1 w=nvfp4 a=bf16");
  const oracle::Layer layer = to_oracle(c.test.problem, c.weights);
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Result run = run_case(c, backend, {.intermediate = true});
    for (std::size_t t = 0; t < 3; ++t) {
      const oracle::Expert& expert = layer.experts[static_cast<std::size_t>(c.ids[t])];
      const std::vector<double> gate = oracle::decode(expert.gate), up = oracle::decode(expert.up);
      const auto row = static_cast<std::size_t>(run.intermediate.row_of[t]);
      for (std::size_t i = 0; i < 48; ++i)
        ASSERT_EQ(from_bf16(run.intermediate.routed.bf16[row * 48 + i]), 32 * gate[i * 128 + 1] * 8 * up[i * 128 + 2])
            << "token " << t << ", channel " << i;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    problems, exact,
    ::testing::Values("t=40 h=128 i=64 e=3 k=2 w=nvfp4 a=bf16", "t=40 h=128 i=64 e=3 k=2 w=nvfp4 a=nvfp4",
                      "t=40 h=128 i=64 e=3 k=2 w=nvfp4 a=int8", "t=40 h=128 i=64 e=3 k=2 w=nvfp4 a=nvfp4 scale=static",
                      "t=17 seed=2 h=80 i=112 e=5 k=3 w=nvfp4 a=bf16 topk=before",
                      "t=17 seed=2 h=80 i=112 e=5 k=3 w=nvfp4 a=nvfp4", "t=17 seed=2 h=80 i=112 e=5 k=3 w=nvfp4 a=int8",
                      "t=9 seed=3 h=272 i=240 e=2 k=1 w=nvfp4 a=bf16 shared=48:nvfp4",
                      "t=9 seed=3 h=272 i=240 e=2 k=1 w=nvfp4 a=nvfp4 shared=48:nvfp4",
                      "t=9 seed=3 h=272 i=240 e=2 k=1 w=nvfp4 a=int8 shared=48:nvfp4",
                      "t=9 seed=4 h=64 i=16 e=4 k=4 w=nvfp4 a=nvfp4",
                      "t=9 seed=5 route=dropped h=144 i=80 e=4 k=2 w=nvfp4 a=int8 topk=before"));

}  // namespace
}  // namespace megamoe::test
