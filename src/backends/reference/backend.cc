// The backend and its plan: the walk over the workspace, and the stages in order.
#include <algorithm>

#include "backends/reference/reference.h"
#include "backends/reference/stages.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace reference {

Rows Rows::take(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t hidden, std::int64_t inter) {
  return {.x = ActivationRows::take(carver, format, rows, hidden),
          .h = ActivationRows::take(carver, format, rows, inter),
          .y = carver.take<float>(rows * hidden)};
}

Workspace::Workspace(Carver& carver, const Problem& problem, std::int64_t max_tokens)
    : row_begin(carver.take<std::int64_t>(problem.experts + 1)),
      row_of(carver.take<std::int64_t>(max_tokens * problem.top_k)),
      choice_of(carver.take<std::int64_t>(max_tokens * problem.top_k)),
      routed(Rows::take(carver, problem.activations, max_tokens * problem.top_k, problem.hidden, problem.inter)) {
  if (problem.shared.inter > 0) {
    shared = Rows::take(carver, shared_activations(problem), max_tokens, problem.hidden, problem.shared.inter);
  }
  const std::int64_t widest = std::max({problem.hidden, problem.inter, problem.shared.inter});
  for (Operand& operand : a) operand = Operand::take(carver, widest);
  w = Operand::take(carver, widest);
  w2 = Operand::take(carver, widest);
  values = carver.take<float>(kRowsAtOnce * widest);
}

namespace {

class ReferencePlan : public PlanImpl {
 public:
  ReferencePlan(std::shared_ptr<const PreparedWeights> weights, std::int64_t max_tokens)
      : weights_(std::static_pointer_cast<const Weights>(std::move(weights))), max_tokens_(max_tokens) {
    Carver counter({});
    Workspace(counter, weights_->problem(), max_tokens_);
    workspace_bytes_ = counter.bytes();
  }

  std::size_t workspace_bytes() const noexcept override { return workspace_bytes_; }
  std::string describe() const override { return "reference: plain loops, 1 thread"; }

  void run(const RunArgs& args) const override {
    const Problem& problem = weights_->problem();
    Carver carver(args.workspace);
    Workspace ws(carver, problem, max_tokens_);
    ws.row_of = ws.row_of.first(args.topk_ids.size());
    ws.choice_of = ws.choice_of.first(args.topk_ids.size());
    order_rows(args.topk_ids, problem.experts, ws.row_begin, ws.row_of, ws.choice_of);

    const Call call{*weights_, problem, args, ws};
    gather_quantize(call);
    gemm1_activation(call);
    gemm2(call);
    combine(call);
    if (args.intermediate != nullptr) *args.intermediate = intermediate(call);
  }

 private:
  static Intermediate intermediate(const Call& call) {
    const Workspace& ws = call.ws;
    Intermediate out;
    out.routed = ws.routed.h.copy(ws.row_begin.back());
    out.row_begin.assign(ws.row_begin.begin(), ws.row_begin.end());
    out.row_of.assign(ws.row_of.begin(), ws.row_of.end());
    if (call.problem.shared.inter > 0) out.shared = ws.shared.h.copy(call.args.tokens);
    return out;
  }

  std::shared_ptr<const Weights> weights_;
  std::int64_t max_tokens_;
  std::size_t workspace_bytes_ = 0;
};

class ReferenceBackend : public Backend {
 public:
  std::string_view name() const noexcept override { return "reference"; }
  std::string refusal(const Problem& /*problem*/) const override { return ""; }

  std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                                 int /*threads*/) const override {
    return std::make_shared<Weights>(problem, source);
  }

  std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights> weights,
                                 const PlanOptions& options) const override {
    return std::make_unique<ReferencePlan>(std::move(weights), options.max_tokens);
  }
};

}  // namespace
}  // namespace reference

const Backend& reference_backend() {
  static const reference::ReferenceBackend backend;
  return backend;
}

}  // namespace megamoe
