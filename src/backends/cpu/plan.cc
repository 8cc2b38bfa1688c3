#include "backends/cpu/plan.h"

#include <algorithm>
#include <string>

#include "backends/cpu/activation_buffer.h"
#include "backends/cpu/combine.h"
#include "backends/cpu/work.h"
#include "base/arena.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/routing.h"
#include "moe/activation_math.h"

namespace megamoe::cpu {
namespace {

// A row's f32 form is needed whole only where one scale spans it.
bool rounds_whole_rows(ActivationFormat format) { return format == ActivationFormat::kNvfp4; }

float shared_gate_of(std::span<const float> gate, std::span<const float> x) {
  double sum = 0.0;
  for (std::size_t i = 0; i < gate.size(); ++i) sum += static_cast<double>(gate[i]) * static_cast<double>(x[i]);
  return sigmoid(static_cast<float>(sum));
}

}  // namespace

// Every array of a run, counted and carved by one walk.
struct CpuPlan::Workspace {
  std::span<std::int64_t> row_begin, row_of, choice_of, first_item;
  std::span<std::int64_t> shared_row_begin, shared_first_item;
  std::span<float> wide_row;     // [threads, hidden]  a token's x in f32
  std::span<float> shared_gate;  // [tokens]
  ActivationBuffer x, shared_x, middle, shared_middle;
  std::span<float> h, shared_h, y, shared_y;

  Workspace(Carver& carver, const CpuWeights& weights, std::int64_t tokens, int threads) {
    const Problem& problem = weights.problem();
    const std::int64_t rows = tokens * problem.top_k;
    row_begin = carver.take<std::int64_t>(problem.experts + 1);
    row_of = carver.take<std::int64_t>(rows);
    choice_of = carver.take<std::int64_t>(rows);
    first_item = carver.take<std::int64_t>(problem.experts + 1);
    wide_row = carver.take<float>(threads * problem.hidden);
    x = ActivationBuffer(carver, problem.activations, tokens, problem.hidden);
    middle = ActivationBuffer(carver, problem.activations, rows, problem.inter);
    if (rounds_whole_rows(problem.activations)) h = carver.take<float>(rows * problem.inter);
    y = carver.take<float>(rows * problem.hidden);
    if (problem.shared.inter == 0) return;
    const ActivationFormat format = shared_activations(problem);
    shared_row_begin = carver.take<std::int64_t>(2);
    shared_first_item = carver.take<std::int64_t>(2);
    if (problem.shared.gated) shared_gate = carver.take<float>(tokens);
    shared_x = format == problem.activations ? x : ActivationBuffer(carver, format, tokens, problem.hidden);
    shared_middle = ActivationBuffer(carver, format, tokens, problem.shared.inter);
    if (rounds_whole_rows(format)) shared_h = carver.take<float>(tokens * problem.shared.inter);
    shared_y = carver.take<float>(tokens * problem.hidden);
  }
};

CpuPlan::CpuPlan(std::shared_ptr<const CpuWeights> weights, const PlanOptions& options)
    : weights_(std::move(weights)), kernels_(kernels()), max_tokens_(options.max_tokens), threads_(options.threads) {
  Carver count{std::span<std::byte>()};
  Workspace(count, *weights_, max_tokens_, threads_.count());
  workspace_bytes_ = count.bytes();
}

std::string CpuPlan::describe() const {
  return "cpu: " + std::string(kernels_.target) + ", " + std::to_string(threads_.count()) +
         (threads_.count() == 1 ? " thread" : " threads") + ", items of " + std::to_string(kItemColumns) +
         " columns x " + std::to_string(kItemRows) + " rows";
}

void CpuPlan::run(const RunArgs& args) const {
  const Problem& problem = weights_->problem();
  const std::int64_t tokens = args.tokens;
  const bool has_shared = problem.shared.inter != 0;
  const bool weights_in_rows = problem.topk_weight == TopkWeightPlace::kBeforeGemm2;
  Carver carver(args.workspace);
  Workspace space(carver, *weights_, max_tokens_, threads_.count());

  // Order rows by expert.
  const auto choices = static_cast<std::size_t>(tokens * problem.top_k);
  order_rows(args.topk_ids, problem.experts, space.row_begin, space.row_of.first(choices),
             space.choice_of.first(choices));

  // The routed experts' rows, and the shared expert's.
  Work works[2];
  works[0] = {.bank = &weights_->routed(),
              .row_begin = space.row_begin,
              .choice_of = space.choice_of,
              .top_k = problem.top_k,
              .row_weight_of_choice = weights_in_rows ? args.topk_weights : std::span<const float>(),
              .x = &space.x,
              .middle = &space.middle,
              .h = space.h,
              .y = space.y};
  if (has_shared) {
    space.shared_row_begin[0] = 0;
    space.shared_row_begin[1] = tokens;
    works[1] = {.bank = &weights_->shared(),
                .row_begin = space.shared_row_begin,
                .x = &space.shared_x,
                .middle = &space.shared_middle,
                .h = space.shared_h,
                .y = space.shared_y};
  }
  const std::span<Work> all(works, has_shared ? 2 : 1);

  // Both works' items of one GEMM are one loop, so that no thread waits between them.
  const auto for_all_items = [&](auto columns_of, auto step) {
    const Items routed(works[0], columns_of(works[0]), space.first_item);
    const Items shared = has_shared ? Items(works[1], columns_of(works[1]), space.shared_first_item) : routed;
    const std::int64_t split = routed.count();
    threads_.each(split + (has_shared ? shared.count() : 0), [&](std::int64_t i, int) {
      if (i < split)
        step(works[0], routed[i]);
      else
        step(works[1], shared[i - split]);
    });
  };

  // Quantise tokens.
  threads_.each(tokens, [&](std::int64_t token, int worker) {
    const std::span<float> wide = space.wide_row.subspan(static_cast<std::size_t>(worker * problem.hidden),
                                                         static_cast<std::size_t>(problem.hidden));
    std::transform(args.x.begin() + token * problem.hidden, args.x.begin() + (token + 1) * problem.hidden, wide.begin(),
                   bf16_to_float);
    space.x.store(token, wide);
    if (has_shared && shared_activations(problem) != problem.activations) space.shared_x.store(token, wide);
    if (problem.shared.gated)
      space.shared_gate[static_cast<std::size_t>(token)] = shared_gate_of(weights_->shared_gate(), wide);
  });

  for_all_items(
      [](const Work& work) { return work.bank->inter; },
      [&](const Work& work, const Item& item) { gemm1_activation(kernels_, problem.activation, work, item); });

  for (const Work& work : all) {
    if (work.h.empty()) continue;
    const std::int64_t inter = work.bank->inter;
    threads_.each(work.rows(), [&](std::int64_t row, int) {
      work.middle->store(row, work.h.subspan(static_cast<std::size_t>(row * inter), static_cast<std::size_t>(inter)));
    });
  }

  for_all_items([](const Work& work) { return work.bank->hidden; },
                [&](const Work& work, const Item& item) { gemm2(kernels_, work, item); });

  const CombineInputs inputs{.hidden = problem.hidden,
                             .top_k = problem.top_k,
                             .row_of = space.row_of,
                             .y = space.y,
                             .shared_y = space.shared_y,
                             .shared_gate = space.shared_gate,
                             .weights_are_in_rows = weights_in_rows};
  const std::int64_t pieces = ceil_div(problem.hidden, kCombineColumns);
  threads_.each(tokens * pieces, [&](std::int64_t i, int) {
    combine(kernels_, inputs, args, i / pieces, i % pieces * kCombineColumns);
  });

  if (args.intermediate == nullptr) return;
  Intermediate& out = *args.intermediate;
  space.middle.copy_to(works[0].rows(), out.routed);
  out.shared = {};
  if (has_shared) space.shared_middle.copy_to(tokens, out.shared);
  out.row_begin.assign(space.row_begin.begin(), space.row_begin.end());
  out.row_of.assign(space.row_of.begin(), space.row_of.begin() + static_cast<std::int64_t>(choices));
}

}  // namespace megamoe::cpu
