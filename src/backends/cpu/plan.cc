#include "backends/cpu/plan.h"

#include <algorithm>
#include <string>

#include "backends/cpu/activation_buffer.h"
#include "backends/cpu/combine.h"
#include "backends/cpu/work.h"
#include "base/arena.h"
#include "megamoe/routing.h"
#include "moe/activation_math.h"

namespace megamoe::cpu {
namespace {

// Elements that are rounded or summed in some 10 us.
constexpr std::int64_t kElementsForAll = 1 << 15;

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

  Workspace(Carver& carver, const Kernels& kernels, const CpuWeights& weights, std::int64_t tokens, int threads) {
    const Problem& problem = weights.problem();
    const std::int64_t rows = tokens * problem.top_k;
    row_begin = carver.take<std::int64_t>(problem.experts + 1);
    row_of = carver.take<std::int64_t>(rows);
    choice_of = carver.take<std::int64_t>(rows);
    first_item = carver.take<std::int64_t>(problem.experts + 1);
    wide_row = carver.take<float>(threads * problem.hidden);
    x = ActivationBuffer(carver, kernels, problem.activations, tokens, problem.hidden);
    middle = ActivationBuffer(carver, kernels, problem.activations, rows, problem.inter);
    if (rounds_whole_rows(problem.activations)) h = carver.take<float>(rows * problem.inter);
    y = carver.take<float>(rows * problem.hidden);
    if (problem.shared.inter == 0) return;
    const ActivationFormat format = shared_activations(problem);
    shared_row_begin = carver.take<std::int64_t>(2);
    shared_first_item = carver.take<std::int64_t>(2);
    if (problem.shared.gated) shared_gate = carver.take<float>(tokens);
    shared_x = format == problem.activations ? x : ActivationBuffer(carver, kernels, format, tokens, problem.hidden);
    shared_middle = ActivationBuffer(carver, kernels, format, tokens, problem.shared.inter);
    if (rounds_whole_rows(format)) shared_h = carver.take<float>(tokens * problem.shared.inter);
    shared_y = carver.take<float>(tokens * problem.hidden);
  }
};

CpuPlan::CpuPlan(std::shared_ptr<const CpuWeights> weights, const PlanOptions& options)
    : weights_(std::move(weights)),
      kernels_(kernels(options.isa)),
      max_tokens_(options.max_tokens),
      threads_(options.threads) {
  Carver count{std::span<std::byte>()};
  Workspace(count, kernels_, *weights_, max_tokens_, threads_.count());
  workspace_bytes_ = count.bytes();
}

std::string CpuPlan::describe() const {
  return "cpu: " + std::string(kernels_.target) + ", " + std::to_string(threads_.count()) +
         (threads_.count() == 1 ? " thread" : " threads") + ", items of " + std::to_string(kItemPanels) + " to " +
         std::to_string(kLongestItemPanels) + " panels x " + std::to_string(kItemRows) + " rows";
}

void CpuPlan::run(const RunArgs& args) const {
  const Problem& problem = weights_->problem();
  const std::int64_t tokens = args.tokens;
  const bool has_shared = problem.shared.inter != 0;
  const bool weights_in_rows = problem.topk_weight == TopkWeightPlace::kBeforeGemm2;
  Carver carver(args.workspace);
  Workspace space(carver, kernels_, *weights_, max_tokens_, threads_.count());

  // Order rows by expert.
  const auto choices = static_cast<std::size_t>(tokens * problem.top_k);
  order_rows(args.topk_ids, problem.experts, space.row_begin, space.row_of.first(choices),
             space.choice_of.first(choices));

  // A loop over short steps: this thread alone is done before another one is awake.
  const auto each = [&](std::int64_t steps, std::int64_t elements_of_step, const auto& body) {
    if (steps * elements_of_step > kElementsForAll) return threads_.each(steps, body);
    for (std::int64_t i = 0; i < steps; ++i) body(i, 0);
  };

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
  const auto for_all_items = [&](auto columns_of, std::int64_t panel_columns, auto step) {
    const int threads = threads_.count();
    const Items routed(works[0], columns_of(works[0]), panel_columns, threads, space.first_item);
    const Items shared =
        has_shared ? Items(works[1], columns_of(works[1]), panel_columns, threads, space.shared_first_item) : routed;
    const std::int64_t split = routed.count();
    threads_.each(split + (has_shared ? shared.count() : 0), [&](std::int64_t i, int) {
      if (i < split)
        step(works[0], routed[i]);
      else
        step(works[1], shared[i - split]);
    });
  };

  const auto done = [&](std::string_view stage) {
    if (args.stage_timer != nullptr) args.stage_timer->stage(stage, nullptr);
  };

  each(tokens, problem.hidden, [&](std::int64_t token, int worker) {
    const std::span<float> wide = space.wide_row.subspan(static_cast<std::size_t>(worker * problem.hidden),
                                                         static_cast<std::size_t>(problem.hidden));
    kernels_.widen_bf16(args.x.data() + token * problem.hidden, problem.hidden, wide.data());
    space.x.store(token, wide);
    if (has_shared && shared_activations(problem) != problem.activations) space.shared_x.store(token, wide);
    if (problem.shared.gated)
      space.shared_gate[static_cast<std::size_t>(token)] = shared_gate_of(weights_->shared_gate(), wide);
  });
  done("order and quantize");

  for_all_items(
      [](const Work& work) { return work.bank->inter; }, kPairLanes,
      [&](const Work& work, const Item& item) { gemm1_activation(kernels_, problem.activation, work, item); });
  done("gemm 1 and activation");

  for (const Work& work : all) {
    if (work.h.empty()) continue;
    const std::int64_t inter = work.bank->inter;
    each(work.rows(), inter, [&](std::int64_t row, int) {
      work.middle->store(row, work.h.subspan(static_cast<std::size_t>(row * inter), static_cast<std::size_t>(inter)));
    });
  }
  if (!works[0].h.empty()) done("requantize");

  for_all_items([](const Work& work) { return work.bank->hidden; }, kLanes,
                [&](const Work& work, const Item& item) { gemm2(kernels_, work, item); });
  done("gemm 2");

  const CombineInputs inputs{.hidden = problem.hidden,
                             .top_k = problem.top_k,
                             .row_of = space.row_of,
                             .y = space.y,
                             .shared_y = space.shared_y,
                             .shared_gate = space.shared_gate,
                             .weights_are_in_rows = weights_in_rows};
  const std::int64_t pieces = ceil_div(problem.hidden, kCombineColumns);
  each(tokens * pieces, kCombineColumns * problem.top_k,
       [&](std::int64_t i, int) { combine(kernels_, inputs, args, i / pieces, i % pieces * kCombineColumns); });
  done("combine");

  if (args.intermediate == nullptr) return;
  Intermediate& out = *args.intermediate;
  space.middle.copy_to(works[0].rows(), space.h, out.routed);
  out.shared = {};
  if (has_shared) space.shared_middle.copy_to(tokens, space.shared_h, out.shared);
  out.row_begin.assign(space.row_begin.begin(), space.row_begin.end());
  out.row_of.assign(space.row_of.begin(), space.row_of.begin() + static_cast<std::int64_t>(choices));
}

}  // namespace megamoe::cpu
