#include "support/two_stages.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bench/to_oracle.h"
#include "oracle/check_intermediate.h"
#include "oracle/check_output.h"
#include "support/summary.h"

namespace megamoe::test {
namespace {

// The share of codes that may be ambiguous: stated, so that stage 1 can not quietly become worthless. An interval's
// half-width is about K u sum|a w|, some K^1.5 u |G| (more where the activation cancels); a code's step is |A| / 256
// for bf16, amax / 127 for int8 and a third of |A| for nvfp4. About twice what correct backends show.
double allowed_ambiguous_share(const Problem& problem) {
  const auto k = static_cast<double>(problem.hidden);
  switch (problem.activations) {
    case ActivationFormat::kBf16:
      return std::min(1.0, 0.1 + 0.004 * k);
    case ActivationFormat::kInt8:
      return std::min(0.7, 0.05 + 0.0005 * k);
    case ActivationFormat::kNvfp4:
      return 0.03 + 0.00002 * k;
  }
  return 0.0;
}

std::string rerun_line(const Case& c, std::string_view backend) {
  return "\n  rerun: MEGAMOE_PROBLEM=\"" + c.test.to_string() + "\" MEGAMOE_BACKEND=" + std::string(backend) +
         " test_numeric --gtest_filter=rerun.one_problem";
}

std::string outside(const oracle::Report& report) {
  return report.first + "; " + std::to_string(report.outside) + " of " + std::to_string(report.elements) + " outside";
}

}  // namespace

oracle::Layer to_oracle(const Problem& problem, const MemorySource& weights) {
  oracle::Layer layer = bench::to_oracle(problem);
  for (const OwnedExpert& expert : weights.experts) layer.experts.push_back(bench::to_oracle(expert.view()));
  if (problem.shared.inter == 0) return layer;
  layer.shared = bench::to_oracle(weights.shared.view());
  layer.shared_gate = weights.gate_vector;
  return layer;
}

oracle::Batch to_oracle(const Case& c) {
  return {.tokens = c.test.tokens, .x = c.x, .ids = c.ids, .weights = c.topk_weights};
}

TwoStages::TwoStages(const Case& c)
    : case_(c), layer_(to_oracle(c.test.problem, c.weights)), expected_(oracle::gemm1(layer_, to_oracle(c))) {}

void TwoStages::check(const Result& run, std::string_view backend, Trust trust) const {
  const oracle::Batch batch = to_oracle(case_);
  const oracle::Intermediate got = bench::to_oracle(run.intermediate);
  ASSERT_EQ(got.row_of.size(), case_.ids.size());

  const oracle::Report codes = oracle::check_intermediate(layer_, batch, expected_, got);
  EXPECT_EQ(codes.outside, 0) << "intermediate: " << outside(codes) << rerun_line(case_, backend);

  const std::vector<double> output = run.as_doubles();
  const auto type = run.f32.empty() ? oracle::OutputType::kBf16 : oracle::OutputType::kF32;
  const oracle::Report sums = oracle::check_output(layer_, batch, got, type, output);
  EXPECT_EQ(sums.outside, 0) << "output: " << outside(sums) << rerun_line(case_, backend);

  note_comparison(backend, case_.test.problem, run.f32.empty(), codes, sums);
  if (trust == Trust::kJustBound || sums.elements == 0 || sums.median_reference == 0.0) return;
  EXPECT_LE(codes.ambiguous_share(), allowed_ambiguous_share(case_.test.problem)) << rerun_line(case_, backend);
  EXPECT_LT(10 * sums.median_bound, sums.median_reference) << "the bound proves nothing" << rerun_line(case_, backend);
  EXPECT_LT(2 * sums.zeros, sums.elements) << "the output is mostly zero" << rerun_line(case_, backend);
}

void check_case(const Case& c, std::string_view backend, Trust trust) {
  const TwoStages stages(c);
  const Layer layer(c, backend, c.test.tokens);
  stages.check(layer.run(c, {.intermediate = true}), backend, trust);
  stages.check(layer.run(c, {.poison = Poison::kNan, .f32 = true, .intermediate = true}), backend, trust);
}

}  // namespace megamoe::test
