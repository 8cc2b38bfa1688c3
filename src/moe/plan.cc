// prepare, candidates and Plan: the public verbs, over the list of backends.

#include <algorithm>

#include "megamoe/error.h"
#include "megamoe/routing.h"
#include "moe/backend.h"

namespace megamoe {
namespace {

// "cpu: <reason>; reference: <reason>"
std::string refusals(const std::vector<Candidate>& all) {
  std::string text;
  for (const Candidate& candidate : all) {
    if (candidate.refusal.empty()) continue;
    if (!text.empty()) text += "; ";
    text += std::string(candidate.backend) + ": " + candidate.refusal;
  }
  return text;
}

std::string accepted_backends() {
  std::string text = "auto";
  for (const std::string_view backend : backend_names()) text += ", " + std::string(backend);
  return text;
}

const Backend& choose(const Problem& problem, std::string_view asked) {
  const std::vector<Candidate> all = candidates(problem);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (asked != "auto" && asked != all[i].backend) continue;
    if (all[i].refusal.empty()) return *backends()[i];
    if (asked != "auto") throw Error(Code::kUnsupported, all[i].backend, ": ", all[i].refusal);
  }
  if (asked != "auto")
    throw Error(Code::kInvalidArgument, "backend: asked '", asked, "', accepted: ", accepted_backends());
  throw Error(Code::kUnsupported, "no backend takes ", problem.to_string(), ": ", refusals(all));
}

// A workspace holds a few arrays of tokens * top_k rows of the widest dimension: with 2^48 elements in each, no count
// of its bytes overflows 64 bits.
std::int64_t most_tokens(const Problem& problem) {
  const std::int64_t widest = std::max({problem.hidden, problem.inter, problem.shared.inter});
  return (std::int64_t{1} << 48) / (problem.top_k * widest);
}

void check_size(std::string_view what, std::size_t found, std::int64_t rows, std::int64_t cols) {
  if (found != static_cast<std::size_t>(rows * cols))
    throw Error(Code::kInvalidArgument, what, ": expected [", rows, ", ", cols, "], found ", found, " elements");
}

void check_args(const Problem& problem, std::int64_t max_tokens, std::size_t workspace_bytes, const RunArgs& args) {
  const std::int64_t tokens = args.tokens;
  if (tokens < 0 || tokens > max_tokens)
    throw Error(Code::kInvalidArgument, "tokens: asked ", tokens, ", accepted: 0 to the plan's ", max_tokens);
  check_size("x", args.x.size(), tokens, problem.hidden);
  check_size("topk_ids", args.topk_ids.size(), tokens, problem.top_k);
  check_size("topk_weights", args.topk_weights.size(), tokens, problem.top_k);
  if (!args.output.empty() && !args.output_f32.empty())
    throw Error(Code::kInvalidArgument, "output: asked both output and output_f32, accepted: one of them");
  if (args.output_f32.empty())
    check_size("output", args.output.size(), tokens, problem.hidden);
  else
    check_size("output_f32", args.output_f32.size(), tokens, problem.hidden);
  if (args.workspace.size() < workspace_bytes)
    throw Error(Code::kInvalidArgument, "workspace: plan needs ", workspace_bytes, " bytes, got ",
                args.workspace.size());
  for (std::size_t i = 0; i < args.topk_ids.size(); ++i) {
    const std::int32_t id = args.topk_ids[i];
    if (id < kPoisonedExpert || id >= problem.experts)
      throw Error(Code::kInvalidArgument, "topk_ids: token ", static_cast<std::int64_t>(i) / problem.top_k,
                  " asks for expert ", id, ", accepted: 0 to ", problem.experts - 1, ", ", kDroppedExpert,
                  " (dropped) or ", kPoisonedExpert, " (poisoned)");
  }
}

}  // namespace

ExpertView ExpertSource::shared_expert(ExpertScratch& /*scratch*/) const {
  throw Error(Code::kInternal, "expert source: the problem has a shared expert, but the source gives none");
}

std::vector<Candidate> candidates(const Problem& problem) {
  validate(problem);
  std::vector<Candidate> all;
  for (const Backend* backend : backends()) all.push_back({backend->name(), backend->refusal(problem)});
  return all;
}

std::vector<std::string_view> backend_names() {
  std::vector<std::string_view> names;
  for (const Backend* backend : backends()) names.push_back(backend->name());
  return names;
}

std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                               const PrepareOptions& options) {
  return choose(problem, options.backend).prepare(problem, source, options.threads);
}

Plan::Plan(std::shared_ptr<const PreparedWeights> weights, const PlanOptions& options)
    : weights_(std::move(weights)), options_(options) {
  if (weights_ == nullptr) throw Error(Code::kInvalidArgument, "plan: asked without weights, accepted: prepared ones");
  if (const std::int64_t most = most_tokens(weights_->problem()); options.max_tokens < 0 || options.max_tokens > most)
    throw Error(Code::kInvalidArgument, "max_tokens: asked ", options.max_tokens, ", accepted: 0 to ", most);
  for (const Backend* backend : backends())
    if (backend->name() == weights_->backend()) impl_ = backend->plan(weights_, options_);
  if (impl_ == nullptr) throw Error(Code::kInternal, "plan: weights of an unknown backend '", weights_->backend(), "'");
}

Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;

std::string_view Plan::backend() const noexcept { return weights_->backend(); }
const Problem& Plan::problem() const noexcept { return weights_->problem(); }
std::int64_t Plan::max_tokens() const noexcept { return options_.max_tokens; }
std::size_t Plan::workspace_bytes() const noexcept { return impl_->workspace_bytes(); }
std::string Plan::describe() const { return impl_->describe(); }

void Plan::run(const RunArgs& args) const {
  check_args(problem(), options_.max_tokens, workspace_bytes(), args);
  impl_->run(args);
}

}  // namespace megamoe
