#include "bench/oracle_check.h"

#include <algorithm>
#include <deque>

#include "bench/to_oracle.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/host_call.h"
#include "oracle/check_intermediate.h"
#include "oracle/check_output.h"
#include "oracle/gemm1.h"

namespace megamoe::bench {
namespace {

// Experts that no token chose stay empty. `memory` holds what the views of the others point to.
oracle::Layer layer_of(const Problem& problem, const ExpertSource& source, const Tokens& tokens,
                       std::deque<ExpertScratch>& memory) {
  oracle::Layer layer = to_oracle(problem);
  layer.experts.resize(static_cast<std::size_t>(problem.experts));
  layer.shared_gate = source.shared_gate();
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
  HostCall call(plan);
  std::vector<std::uint16_t> rounded(tokens.x.size());
  std::vector<float> output(tokens.x.size());
  Intermediate intermediate;
  RunArgs args{.tokens = tokens.count,
               .x = tokens.x,
               .topk_ids = tokens.topk_ids,
               .topk_weights = tokens.topk_weights,
               .output = rounded,
               .output_f32 = {},
               .workspace = {}};
  call.run(args);
  args.output = {};
  args.output_f32 = output;
  args.intermediate = &intermediate;
  call.run(args);

  std::deque<ExpertScratch> memory;
  const oracle::Layer layer = layer_of(plan.problem(), source, tokens, memory);
  const oracle::Batch batch{
      .tokens = tokens.count, .x = tokens.x, .ids = tokens.topk_ids, .weights = tokens.topk_weights};
  const oracle::Intermediate got = to_oracle(intermediate);
  const std::vector<double> wide(output.begin(), output.end());

  OracleCheck check;
  check.intermediate = oracle::check_intermediate(layer, batch, oracle::gemm1(layer, batch), got);
  check.output = oracle::check_output(layer, batch, got, oracle::OutputType::kF32, wide);
  for (std::size_t i = 0; i < output.size(); ++i)
    check.bf16_output_agrees = check.bf16_output_agrees && rounded[i] == bf16_from_float(output[i]);
  return check;
}

}  // namespace megamoe::bench
