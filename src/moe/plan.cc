// prepare, candidates and Plan: the public verbs, over the list of backends.

#include <algorithm>
#include <utility>

#include "megamoe/error.h"
#include "moe/backend.h"
#include "moe/check_args.h"

namespace megamoe {
namespace {

// "cpu: <reason>; reference: <reason>", of those that were asked.
std::string refusals(const std::vector<Candidate>& all, std::string_view asked) {
  std::string text;
  for (const Candidate& candidate : all) {
    if (candidate.refusal.empty() || !means_backend(asked, candidate.backend)) continue;
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
  bool found = false;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!means_backend(asked, all[i].backend)) continue;
    if (all[i].refusal.empty()) return *backends()[i];
    found = true;
    if (asked == all[i].backend) throw Error(Code::kUnsupported, asked, ": ", all[i].refusal);
  }
  if (found && asked != "auto")
    throw Error(Code::kUnsupported, "no backend of '", asked, "' takes ", problem.to_string(), ": ",
                refusals(all, asked));
  if (asked != "auto")
    throw Error(Code::kInvalidArgument, "backend: asked '", asked, "', accepted: ", accepted_backends());
  throw Error(Code::kUnsupported, "no backend takes ", problem.to_string(), ": ", refusals(all, "auto"));
}

// A workspace holds a few arrays of tokens * top_k rows of the widest dimension: with 2^48 elements in each, no count
// of its bytes overflows 64 bits.
std::int64_t most_tokens(const Problem& problem) {
  const std::int64_t widest = std::max({problem.hidden, problem.inter, problem.shared.inter});
  return (std::int64_t{1} << 48) / (problem.top_k * widest);
}

}  // namespace

bool means_backend(std::string_view asked, std::string_view backend) {
  return asked == "auto" || asked == backend || asked == backend.substr(0, backend.find('/'));
}

ExpertView ExpertSource::shared_expert(ExpertScratch& /*scratch*/) const {
  throw Error(Code::kInternal, "expert source: the problem has a shared expert, but the source gives none");
}

std::vector<Candidate> candidates(const Problem& problem) {
  validate(problem);
  std::vector<Candidate> all;
  for (const Backend* backend : backends()) {
    Candidate candidate{backend->name(), backend->refusal(problem), false};
    if (candidate.refusal.empty()) {
      candidate.refusal = backend->absence();
      candidate.elsewhere = !candidate.refusal.empty();
    }
    all.push_back(std::move(candidate));
  }
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
  for (const Backend* backend : backends()) {
    if (backend->name() != weights_->backend()) continue;
    if (!options.isa.empty() && !backend->takes_isa())
      throw Error(Code::kInvalidArgument, "isa: asked ", options.isa, " of backend ", backend->name(),
                  ", which has no choice of them, accepted: of backend cpu");
    impl_ = backend->plan(weights_, options_);
  }
  if (impl_ == nullptr) throw Error(Code::kInternal, "plan: weights of an unknown backend '", weights_->backend(), "'");
}

Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;

std::string_view Plan::backend() const noexcept { return weights_->backend(); }
const Problem& Plan::problem() const noexcept { return weights_->problem(); }
std::int64_t Plan::max_tokens() const noexcept { return options_.max_tokens; }
MemoryKind Plan::memory() const noexcept { return impl_->memory(); }
std::size_t Plan::workspace_bytes() const noexcept { return impl_->workspace_bytes(); }
std::string Plan::describe() const { return impl_->describe(); }

void Plan::run(const RunArgs& args) const {
  check_sizes(problem(), options_.max_tokens, workspace_bytes(), args);
  // A device's ids are not read here: run never waits for a device. The backend poisons the tokens of bad ones.
  if (memory() == MemoryKind::kHost)
    check_ids(problem(), args.topk_ids);
  else
    check_device_alignment(args);
  impl_->run(args);
}

}  // namespace megamoe
