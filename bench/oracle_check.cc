#include "bench/oracle_check.h"

#include <algorithm>
#include <deque>

#include "megamoe/formats/bf16.h"
#include "oracle/check_intermediate.h"
#include "oracle/check_output.h"
#include "oracle/gemm1.h"

namespace megamoe::bench {
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
  return oracle::Activations::kBf16;
}

oracle::Matrix to_oracle(const MatrixView& matrix) {
  return {.format = matrix.format == WeightFormat::kNvfp4 ? oracle::Weights::kNvfp4 : oracle::Weights::kBf16,
          .rows = matrix.rows,
          .cols = matrix.cols,
          .data = reinterpret_cast<const unsigned char*>(matrix.data),
          .sf = reinterpret_cast<const unsigned char*>(matrix.sf),
          .global = matrix.global_scale};
}

oracle::Expert to_oracle(const ExpertView& expert) {
  return {.gate = to_oracle(expert.gate),
          .up = to_oracle(expert.up),
          .down = to_oracle(expert.down),
          .gate_bias = expert.gate_bias,
          .up_bias = expert.up_bias,
          .down_bias = expert.down_bias,
          .gate_up_input_scale = expert.gate_up_input_scale,
          .down_input_scale = expert.down_input_scale};
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

// Experts that no token chose stay empty. `memory` holds what the views of the others point to.
oracle::Layer to_oracle(const Problem& problem, const ExpertSource& source, const Tokens& tokens,
                        std::deque<ExpertScratch>& memory) {
  oracle::Layer layer{
      .hidden = problem.hidden,
      .inter = problem.inter,
      .top_k = problem.top_k,
      .activations = to_oracle(problem.activations),
      .static_scale = problem.activation_scale == ActivationScale::kStatic,
      .kind = problem.activation.kind == Activation::Kind::kSwiglu ? oracle::Kind::kSwiglu : oracle::Kind::kSwigluOai,
      .limit = problem.activation.limit,
      .alpha = problem.activation.alpha,
      .weight_before_gemm2 = problem.topk_weight == TopkWeightPlace::kBeforeGemm2,
      .experts = std::vector<oracle::Expert>(static_cast<std::size_t>(problem.experts)),
      .shared_inter = problem.shared.inter,
      .shared_activations = to_oracle(shared_activations(problem)),
      .shared = {},
      .shared_gate = source.shared_gate()};
  for (std::int64_t e = 0; e < problem.experts; ++e)
    if (std::find(tokens.topk_ids.begin(), tokens.topk_ids.end(), e) != tokens.topk_ids.end())
      layer.experts[static_cast<std::size_t>(e)] = to_oracle(source.expert(e, memory.emplace_back()));
  if (problem.shared.inter != 0) layer.shared = to_oracle(source.shared_expert(memory.emplace_back()));
  return layer;
}

}  // namespace

bool OracleCheck::passed() const { return first_fault().empty(); }

std::string OracleCheck::first_fault() const {
  if (intermediate.outside != 0) return "intermediate: " + intermediate.first;
  if (output.outside != 0) return "output: " + output.first;
  if (!bf16_output_agrees) return "output: the bf16 output is not the f32 output rounded once";
  return {};
}

OracleCheck check_with_oracle(const Plan& plan, const ExpertSource& source, const Tokens& tokens) {
  std::vector<std::byte> workspace(plan.workspace_bytes());
  std::vector<std::uint16_t> rounded(tokens.x.size());
  std::vector<float> output(tokens.x.size());
  Intermediate intermediate;
  RunArgs args{.tokens = tokens.count,
               .x = tokens.x,
               .topk_ids = tokens.topk_ids,
               .topk_weights = tokens.topk_weights,
               .output = rounded,
               .output_f32 = {},
               .workspace = workspace};
  plan.run(args);
  args.output = {};
  args.output_f32 = output;
  args.intermediate = &intermediate;
  plan.run(args);

  std::deque<ExpertScratch> memory;
  const oracle::Layer layer = to_oracle(plan.problem(), source, tokens, memory);
  const oracle::Batch batch{
      .tokens = tokens.count, .x = tokens.x, .ids = tokens.topk_ids, .weights = tokens.topk_weights};
  const oracle::Intermediate got{.routed = to_oracle(intermediate.routed),
                                 .shared = to_oracle(intermediate.shared),
                                 .row_of = intermediate.row_of};
  const std::vector<double> wide(output.begin(), output.end());

  OracleCheck check;
  check.intermediate = oracle::check_intermediate(layer, batch, oracle::gemm1(layer, batch), got);
  check.output = oracle::check_output(layer, batch, got, oracle::OutputType::kF32, wide);
  for (std::size_t i = 0; i < output.size(); ++i)
    check.bf16_output_agrees = check.bf16_output_agrees && rounded[i] == bf16_from_float(output[i]);
  return check;
}

}  // namespace megamoe::bench
