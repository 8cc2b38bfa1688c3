// What a routing rule says in words, and which sizes it accepts.
#include <cmath>
#include <sstream>

#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

const char* score_name(ScoreFunction score) {
  switch (score) {
    case ScoreFunction::kSoftmax:
      return "softmax";
    case ScoreFunction::kSigmoid:
      return "sigmoid";
    case ScoreFunction::kSqrtSoftplus:
      return "sqrtsoftplus";
    case ScoreFunction::kTopkThenSoftmax:
      return "topk-then-softmax";
  }
  throw Error(Code::kInvalidArgument, "score function: asked value ", static_cast<int>(score), ", accepted: 0 to 3");
}

}  // namespace

std::string RoutingRule::to_string() const {
  std::ostringstream out;
  out << score_name(score);
  if (groups > 1) {
    out << " groups " << groups_kept << '/' << groups << (group_score == GroupScore::kMax ? " max" : " top2");
  }
  if (renormalize) out << " renorm";
  if (renormalize && renormalize_epsilon != 0.0f) out << "+" << renormalize_epsilon;
  if (scale != 1.0f) out << " x" << scale;
  if (round_logits_to_bf16) out << " bf16-logits";
  return out.str();
}

void validate(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k) {
  if (experts < 1) throw Error(Code::kInvalidArgument, "experts: asked ", experts, ", accepted: at least 1");
  if (top_k < 1 || top_k > experts) {
    throw Error(Code::kInvalidArgument, "top_k: asked ", top_k, ", accepted: 1 to ", experts, " (the experts)");
  }
  if (rule.groups < 1 || experts % rule.groups != 0) {
    throw Error(Code::kInvalidArgument, "groups: asked ", rule.groups, ", accepted: divisors of ", experts,
                " (the experts)");
  }
  if (rule.groups_kept < 1 || rule.groups_kept > rule.groups) {
    throw Error(Code::kInvalidArgument, "groups_kept: asked ", rule.groups_kept, ", accepted: 1 to ", rule.groups,
                " (the groups)");
  }
  const std::int64_t group_size = experts / rule.groups;
  if (top_k > group_size * rule.groups_kept) {
    throw Error(Code::kInvalidArgument, "top_k: asked ", top_k, ", accepted: 1 to ", group_size * rule.groups_kept,
                " (the experts of ", rule.groups_kept, " kept groups)");
  }
  if (rule.groups_kept < rule.groups && rule.group_score == GroupScore::kTop2Sum && group_size < 2) {
    throw Error(Code::kInvalidArgument, "groups: asked ", rule.groups, " of 1 expert each, accepted: at least 2 ",
                "experts a group where a group's score is the sum of its two best");
  }
  if (!std::isfinite(rule.scale)) {
    throw Error(Code::kInvalidArgument, "scale: asked ", rule.scale, ", accepted: a finite number");
  }
  if (!std::isfinite(rule.renormalize_epsilon) || rule.renormalize_epsilon < 0.0f) {
    throw Error(Code::kInvalidArgument, "renormalize_epsilon: asked ", rule.renormalize_epsilon,
                ", accepted: a finite number of at least 0");
  }
}

}  // namespace megamoe
