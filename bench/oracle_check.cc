#include "bench/oracle_check.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <deque>
#include <numeric>

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

// What one batch left.
struct Outcome {
  std::vector<std::uint16_t> bf16;
  std::vector<float> f32;
  Intermediate intermediate;
};

Outcome run_both_outputs(const Plan& plan, const Tokens& tokens) {
  Outcome outcome;
  outcome.bf16.resize(tokens.x.size());
  outcome.f32.resize(tokens.x.size());
  HostCall call(plan);
  RunArgs args;
  args.tokens = tokens.count;
  args.x = tokens.x;
  args.topk_ids = tokens.topk_ids;
  args.topk_weights = tokens.topk_weights;
  args.output = outcome.bf16;
  call.run(args);
  args.output = {};
  args.output_f32 = outcome.f32;
  args.intermediate = &outcome.intermediate;
  call.run(args);
  return outcome;
}

bool same_rounded(const Outcome& outcome) {
  for (std::size_t i = 0; i < outcome.f32.size(); ++i)
    if (outcome.bf16[i] != bf16_from_float(outcome.f32[i])) return false;
  return true;
}

// The rows of `values`, [rows, any width], that `chosen` names, in its order.
template <class T>
std::vector<T> rows_of(const std::vector<T>& values, std::int64_t rows, const std::vector<std::int64_t>& chosen) {
  const std::size_t width = rows == 0 ? 0 : values.size() / static_cast<std::size_t>(rows);
  std::vector<T> some;
  for (const std::int64_t row : chosen) {
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * width);
    some.insert(some.end(), from, from + static_cast<std::ptrdiff_t>(width));
  }
  return some;
}

Intermediate::Rows rows_of(const Intermediate::Rows& all, const std::vector<std::int64_t>& chosen) {
  Intermediate::Rows some{.format = all.format, .rows = static_cast<std::int64_t>(chosen.size()), .inter = all.inter};
  if (all.rows == 0) return all;
  some.bf16 = rows_of(all.bf16, all.rows, chosen);
  some.codes = rows_of(all.codes, all.rows, chosen);
  some.sf = rows_of(all.sf, all.rows, chosen);
  some.global_scale = rows_of(all.global_scale, all.rows, chosen);
  some.int8 = rows_of(all.int8, all.rows, chosen);
  some.int8_scale = rows_of(all.int8_scale, all.rows, chosen);
  return some;
}

Tokens rows_of(const Tokens& all, const std::vector<std::int64_t>& chosen) {
  return {.count = static_cast<std::int64_t>(chosen.size()),
          .x = rows_of(all.x, all.count, chosen),
          .topk_ids = rows_of(all.topk_ids, all.count, chosen),
          .topk_weights = rows_of(all.topk_weights, all.count, chosen)};
}

// The intermediate of some tokens as a batch of their own has it. Rows of a batch lie in an order that keeps among some
// of them what it is among all; a row that the batch can not have becomes -1, which the oracle reports.
Intermediate rows_of(const Intermediate& all, std::int64_t tokens, const std::vector<std::int64_t>& chosen) {
  Intermediate some;
  some.shared = rows_of(all.shared, chosen);
  some.y_is_bf16 = all.y_is_bf16;
  some.row_of = rows_of(all.row_of, tokens, chosen);
  std::vector<std::int64_t> rows;
  for (std::int64_t& row : some.row_of) {
    if (row >= all.routed.rows) row = -1;
    if (row >= 0) rows.push_back(row);
  }
  std::sort(rows.begin(), rows.end());
  some.routed = rows_of(all.routed, rows);
  for (std::int64_t& row : some.row_of)
    if (row >= 0) row = std::lower_bound(rows.begin(), rows.end(), row) - rows.begin();
  return some;
}

// Judges the tokens that `chosen` names, as a batch of their own.
OracleCheck judge(const Problem& problem, const ExpertSource& source, const Tokens& all, const Outcome& outcome,
                  const std::vector<std::int64_t>& chosen) {
  const Tokens tokens = rows_of(all, chosen);
  std::deque<ExpertScratch> memory;
  const oracle::Layer layer = layer_of(problem, source, tokens, memory);
  const oracle::Batch batch{
      .tokens = tokens.count, .x = tokens.x, .ids = tokens.topk_ids, .weights = tokens.topk_weights};
  const Intermediate intermediate = rows_of(outcome.intermediate, all.count, chosen);
  const oracle::Intermediate got = to_oracle(intermediate);
  const std::vector<float> output = rows_of(outcome.f32, all.count, chosen);

  OracleCheck check;
  check.intermediate = oracle::check_intermediate(layer, batch, oracle::gemm1(layer, batch), got);
  if (check.intermediate.outside == 0)
    check.output = oracle::check_output(layer, batch, got, oracle::OutputType::kF32,
                                        std::vector<double>(output.begin(), output.end()));
  return check;
}

void add(oracle::Report& sum, const oracle::Report& one, std::int64_t token) {
  if (sum.outside == 0 && one.outside != 0)
    sum.first = "token " + std::to_string(token) + ", judged alone: " + one.first;
  sum.elements += one.elements;
  sum.outside += one.outside;
  sum.ambiguous += one.ambiguous;
  sum.zeros += one.zeros;
  sum.worst_share = std::max(sum.worst_share, one.worst_share);
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
  const Outcome outcome = run_both_outputs(plan, tokens);
  std::vector<std::int64_t> every(static_cast<std::size_t>(tokens.count));
  std::iota(every.begin(), every.end(), 0);
  OracleCheck check = judge(plan.problem(), source, tokens, outcome, every);
  check.bf16_output_agrees = same_rounded(outcome);
  return check;
}

SampleCheck check_sample_with_oracle(const Plan& plan, const ExpertSource& source, const Tokens& tokens,
                                     std::int64_t sample) {
  Outcome outcome = run_both_outputs(plan, tokens);
  const std::int64_t judged = std::min(sample, tokens.count);
  const auto token_of = [&](std::size_t i) { return static_cast<std::int64_t>(i) * tokens.count / judged; };
  std::vector<OracleCheck> checks(static_cast<std::size_t>(judged));
  tbb::parallel_for(std::size_t{0}, checks.size(),
                    [&](std::size_t i) { checks[i] = judge(plan.problem(), source, tokens, outcome, {token_of(i)}); });

  SampleCheck result;
  result.judged = judged;
  result.check.bf16_output_agrees = same_rounded(outcome);
  for (std::size_t i = 0; i < checks.size(); ++i) {
    add(result.check.intermediate, checks[i].intermediate, token_of(i));
    add(result.check.output, checks[i].output, token_of(i));
  }
  result.output = std::move(outcome.bf16);
  return result;
}

}  // namespace megamoe::bench
