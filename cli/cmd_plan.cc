// megamoe plan: who takes a problem, why each other backend refuses it, and what memory it takes.
#include <fmt/format.h>

#include <memory>

#include "bench/read_probe.h"
#include "bench/synthetic.h"
#include "command.h"
#include "json_output.h"
#include "layer_choice.h"
#include "megamoe/error.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  LayerChoice layer;
  std::int64_t tokens = 256;
  std::string backend = "auto";
  int threads = 0;
  std::string isa;
  bool json = false;
};

// Of the memory that is free; the rest is for the machine's other work.
constexpr double kMemoryShare = 0.7;

// Weights are really prepared, so that the figures are those of a run. Not where they do not fit.
bool fits(const Problem& problem) {
  const double need = static_cast<double>(bench::expert_bytes(problem)) * static_cast<double>(problem.experts);
  const auto have = static_cast<double>(bench::available_memory());
  if (have == 0 || need <= kMemoryShare * have) return true;
  message(fmt::format("the weights take {}, {} are free: memory figures left out (--experts makes a shape smaller)",
                      human_bytes(need), human_bytes(have)));
  return false;
}

nlohmann::json candidates_json(const std::vector<Candidate>& all) {
  nlohmann::json list = nlohmann::json::array();
  for (const Candidate& candidate : all)
    list.push_back(
        {{"backend", candidate.backend}, {"takes", candidate.refusal.empty()}, {"refusal", candidate.refusal}});
  return list;
}

int run(const Options& options) {
  const ChosenLayer layer = choose_layer(options.layer);
  const std::vector<Candidate> all = candidates(layer.problem);
  nlohmann::json json{{"problem", layer.problem.to_string()}, {"candidates", candidates_json(all)}};
  std::vector<std::pair<std::string, std::string>> facts{{"problem", layer.problem.to_string()}};
  if (fits(layer.problem)) {
    const auto weights =
        prepare(layer.problem, *layer.source, {.backend = options.backend, .threads = options.threads});
    const Plan plan(weights, {.max_tokens = options.tokens, .threads = options.threads, .isa = options.isa});
    json.update({{"backend", plan.backend()},
                 {"plan", plan.describe()},
                 {"max_tokens", plan.max_tokens()},
                 {"prepared_bytes", weights->bytes()},
                 {"workspace_bytes", plan.workspace_bytes()}});
    facts.emplace_back("backend", plan.backend());
    facts.emplace_back("plan", plan.describe());
    facts.emplace_back("prepared weights", human_bytes(static_cast<double>(weights->bytes())));
    facts.emplace_back("workspace",
                       fmt::format("{} for up to {} tokens", human_bytes(static_cast<double>(plan.workspace_bytes())),
                                   plan.max_tokens()));
  }
  if (options.json) {
    print_json(json);
    return kDone;
  }
  print_facts(facts);
  print_line();
  Table table({{"backend"}, {"takes it"}, {"why not"}});
  for (const Candidate& candidate : all)
    table.add_row({std::string(candidate.backend), candidate.refusal.empty() ? "yes" : "no", candidate.refusal});
  table.print();
  return kDone;
}

}  // namespace

void add_plan(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "plan", "Who takes a problem, why others refuse it, what memory it needs",
            "megamoe plan --shape qwen3-30b-a3b --tokens 256 --activations int8", options->json);
  add_layer_options(verb, options->layer, true);
  verb.integer("--tokens", options->tokens, 0, "The most tokens of one call");
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  add_isa_option(verb, options->isa);
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
