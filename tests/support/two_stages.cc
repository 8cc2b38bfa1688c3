#include "support/two_stages.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "oracle/check_intermediate.h"
#include "oracle/check_output.h"
#include "support/summary.h"

namespace megamoe::test {
namespace {

oracle::Activations to_oracle(ActivationFormat format) {
  switch (format) {
    case ActivationFormat::kBf16:
      return oracle::Activations::kBf16;
    case ActivationFormat::kNvfp4:
      return oracle::Activations::kNvfp4;
    case ActivationFormat::kInt8:
      return oracle::Activations::kInt8;
  }
  return {};
}

oracle::Matrix to_oracle(const OwnedMatrix& matrix) {
  return {.format = matrix.format == WeightFormat::kBf16 ? oracle::Weights::kBf16 : oracle::Weights::kNvfp4,
          .rows = matrix.rows,
          .cols = matrix.cols,
          .data = reinterpret_cast<const unsigned char*>(matrix.data.data()),
          .sf = reinterpret_cast<const unsigned char*>(matrix.sf.data()),
          .global = static_cast<double>(matrix.global_scale)};
}

oracle::Expert to_oracle(const OwnedExpert& expert) {
  return {.gate = to_oracle(expert.gate),
          .up = to_oracle(expert.up),
          .down = to_oracle(expert.down),
          .gate_bias = expert.gate_bias,
          .up_bias = expert.up_bias,
          .down_bias = expert.down_bias,
          .gate_up_input_scale = static_cast<double>(expert.gate_up_input_scale),
          .down_input_scale = static_cast<double>(expert.down_input_scale)};
}

oracle::Rows to_oracle(const Intermediate::Rows& rows) {
  return {.format = to_oracle(rows.format),
          .rows = rows.rows,
          .inter = rows.inter,
          .bf16 = rows.bf16,
          .codes = rows.codes,
          .sf = rows.sf,
          .global = rows.global_scale,
          .int8 = rows.int8,
          .int8_scale = rows.int8_scale};
}

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
  oracle::Layer layer{
      .hidden = problem.hidden,
      .inter = problem.inter,
      .top_k = problem.top_k,
      .activations = to_oracle(problem.activations),
      .static_scale = problem.activation_scale == ActivationScale::kStatic,
      .kind = problem.activation.kind == Activation::Kind::kSwiglu ? oracle::Kind::kSwiglu : oracle::Kind::kSwigluOai,
      .limit = static_cast<double>(problem.activation.limit),
      .alpha = static_cast<double>(problem.activation.alpha),
      .weight_before_gemm2 = problem.topk_weight == TopkWeightPlace::kBeforeGemm2};
  for (const OwnedExpert& expert : weights.experts) layer.experts.push_back(to_oracle(expert));
  if (problem.shared.inter > 0) {
    layer.shared_inter = problem.shared.inter;
    // By the contract bf16 weights always meet bf16 activations in the shared expert.
    layer.shared_activations =
        problem.shared.weights == WeightFormat::kBf16 ? oracle::Activations::kBf16 : layer.activations;
    layer.shared = to_oracle(weights.shared);
    layer.shared_gate = weights.gate_vector;
  }
  return layer;
}

oracle::Batch to_oracle(const Case& c) {
  return {.tokens = c.test.tokens, .x = c.x, .ids = c.ids, .weights = c.topk_weights};
}

oracle::Intermediate to_oracle(const Intermediate& intermediate) {
  return {.routed = to_oracle(intermediate.routed),
          .shared = to_oracle(intermediate.shared),
          .row_of = intermediate.row_of};
}

TwoStages::TwoStages(const Case& c)
    : case_(c), layer_(to_oracle(c.test.problem, c.weights)), expected_(oracle::gemm1(layer_, to_oracle(c))) {}

void TwoStages::check(const Result& run, std::string_view backend, Trust trust) const {
  const oracle::Batch batch = to_oracle(case_);
  const oracle::Intermediate got = to_oracle(run.intermediate);
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
