#include "megamoe/moe_block.h"

#include "megamoe/error.h"

namespace megamoe {

MoeBlock::MoeBlock(const MoeLayer& layer, const MoeBlockOptions& options)
    : routing_(layer.routing),
      router_weight_(layer.router_weight),
      router_bias_(layer.router_bias),
      choice_bias_(layer.choice_bias),
      weights_(options.weights != nullptr
                   ? options.weights
                   : prepare(layer.problem, *layer.experts, {.backend = options.backend, .threads = options.threads})),
      plan_(std::make_unique<const Plan>(
          weights_, PlanOptions{.max_tokens = options.max_tokens, .threads = options.threads, .isa = options.isa})),
      call_(*plan_) {
  if (weights_->problem() != layer.problem)
    throw Error(Code::kInvalidArgument, "prepared weights: asked for ", layer.problem.to_string(), ", they are for ",
                weights_->problem().to_string());
}

RoutedTokens MoeBlock::route(std::span<const std::uint16_t> x) const {
  const Problem& problem = plan_->problem();
  const auto hidden = static_cast<std::size_t>(problem.hidden);
  if (x.size() % hidden != 0)
    throw Error(Code::kInvalidArgument, "x: found ", x.size(), " elements, accepted: a multiple of hidden = ", hidden);
  const std::size_t tokens = x.size() / hidden;
  std::vector<float> logits(tokens * static_cast<std::size_t>(problem.experts));
  router_logits(routing_, x, router_weight_, router_bias_, problem.hidden, logits);

  RoutedTokens routed;
  routed.topk_ids.resize(tokens * static_cast<std::size_t>(problem.top_k));
  routed.topk_weights.resize(routed.topk_ids.size());
  routed.poisoned = megamoe::route(routing_, problem.experts, problem.top_k, logits, choice_bias_, routed.topk_ids,
                                   routed.topk_weights);
  return routed;
}

RunArgs MoeBlock::args(std::span<const std::uint16_t> x, const RoutedTokens& routed) const {
  RunArgs args;
  args.tokens = static_cast<std::int64_t>(x.size()) / plan_->problem().hidden;
  args.x = x;
  args.topk_ids = routed.topk_ids;
  args.topk_weights = routed.topk_weights;
  return args;
}

void MoeBlock::run(std::span<const std::uint16_t> x, const RoutedTokens& routed, std::span<std::uint16_t> output) {
  RunArgs asked = args(x, routed);
  asked.output = output;
  call_.run(asked);
}

void MoeBlock::run(std::span<const std::uint16_t> x, const RoutedTokens& routed, std::span<float> output) {
  RunArgs asked = args(x, routed);
  asked.output_f32 = output;
  call_.run(asked);
}

}  // namespace megamoe
