// What prepare keeps, and what it refuses: one sentence that names the expert and the part.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "backends/reference/small_layer.h"
#include "megamoe/error.h"

namespace megamoe::test {
namespace {

const Problem kProblem = parse_problem("h=32 i=16 e=2 k=1");

std::string refusal(const Problem& problem, const std::function<void(SmallLayer&)>& damage) {
  SmallLayer layer(problem);
  damage(layer);
  try {
    prepare(problem, layer, {.backend = "reference"});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(reference_prepare, copies_so_that_the_source_may_go) {
  std::shared_ptr<const PreparedWeights> weights;
  {
    SmallLayer layer(kProblem);
    weights = prepare(kProblem, layer, {.backend = "reference"});
  }
  EXPECT_EQ(weights->backend(), "reference");
  EXPECT_EQ(weights->problem(), kProblem);
  EXPECT_EQ(weights->bytes(), 2u * 3u * (32 * 16 / 2 + 32 * 16 / 16));
}

TEST(reference_prepare, refuses_matrices_that_are_not_the_problems) {
  EXPECT_EQ(refusal(kProblem, [](SmallLayer&) {}), "");
  EXPECT_EQ(refusal(kProblem, [](SmallLayer& l) { l.experts[1].up = SmallMatrix(WeightFormat::kNvfp4, 32, 16); }),
            "expert 1 up: expected nvfp4 [16, 32], found nvfp4 [32, 16]");
  EXPECT_EQ(refusal(kProblem, [](SmallLayer& l) { l.experts[0].down = SmallMatrix(WeightFormat::kBf16, 32, 16); }),
            "expert 0 down: expected nvfp4 [32, 16], found bf16 [32, 16]");
  EXPECT_EQ(refusal(kProblem, [](SmallLayer& l) { l.experts[0].gate.sf.clear(); }),
            "expert 0 gate: expected its block scales, found none");
}

TEST(reference_prepare, refuses_global_scales_that_are_not_positive_numbers) {
  for (const float bad : {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const std::string got = refusal(kProblem, [bad](SmallLayer& l) { l.experts[1].gate.global_scale = bad; });
    EXPECT_EQ(got.rfind("expert 1 gate global scale: found ", 0), 0u) << got;
  }
}

TEST(reference_prepare, refuses_biases_where_the_problem_has_none_and_the_reverse) {
  EXPECT_EQ(refusal(kProblem, [](SmallLayer& l) { l.experts[0].up_bias.resize(16); }),
            "expert 0 up bias: expected 0 elements, found 16");
  Problem biased = kProblem;
  biased.has_bias = true;
  EXPECT_EQ(refusal(biased, [](SmallLayer&) {}), "");
  EXPECT_EQ(refusal(biased, [](SmallLayer& l) { l.experts[1].down_bias.resize(16); }),
            "expert 1 down bias: expected 32 elements, found 16");
}

TEST(reference_prepare, refuses_missing_input_scales_where_they_are_needed) {
  Problem problem = kProblem;
  problem.activation_scale = ActivationScale::kStatic;
  EXPECT_EQ(refusal(problem, [](SmallLayer&) {}), "");  // bf16 activations need none
  problem.activations = ActivationFormat::kNvfp4;
  EXPECT_EQ(refusal(problem, [](SmallLayer&) {}),
            "expert 0 gate and up input scale: found 0, accepted: finite numbers above 0");
  EXPECT_EQ(refusal(problem,
                    [](SmallLayer& l) {
                      for (SmallExpert& expert : l.experts) expert.gate_up_input_scale = 1.0f;
                      l.experts[0].down_input_scale = 1.0f;
                    }),
            "expert 1 down input scale: found 0, accepted: finite numbers above 0");
}

TEST(reference_prepare, refuses_shared_experts_that_are_not_the_problems) {
  Problem problem = kProblem;
  problem.shared = {.inter = 48, .weights = WeightFormat::kBf16, .gated = true};
  EXPECT_EQ(refusal(problem, [](SmallLayer&) {}), "");
  EXPECT_EQ(refusal(problem, [](SmallLayer& l) { l.gate_vector.pop_back(); }),
            "shared expert gate vector: expected 32 elements, found 31");
  EXPECT_EQ(refusal(problem, [](SmallLayer& l) { l.shared.gate = SmallMatrix(WeightFormat::kBf16, 16, 32); }),
            "shared expert gate: expected bf16 [48, 32], found bf16 [16, 32]");
  EXPECT_EQ(refusal(problem, [](SmallLayer& l) { l.shared.up_bias.resize(48); }),
            "shared expert up bias: expected 0 elements, found 48");
}

}  // namespace
}  // namespace megamoe::test
