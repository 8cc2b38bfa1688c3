// megamoe bench: times one layer of random weights beside the machine's measured read bandwidth.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "bench/layer_timer.h"
#include "bench/oracle_check.h"
#include "command.h"
#include "json_output.h"
#include "layer_choice.h"
#include "machine.h"
#include "megamoe/error.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  LayerChoice layer;
  std::vector<std::int64_t> tokens{1, 16, 256};
  std::string backend = "auto";
  int threads = 0;
  double seconds = 2.0;
  bool json = false;
};

constexpr std::size_t kProbeBytes = std::size_t{2} << 30;
constexpr std::int64_t kCheckedTokens = 2;
constexpr double kMemoryShare = 0.8;
// Batches in rotation: their experts together are more than a cache holds, but making them costs no time to speak of.
constexpr int kBatches = 8;
constexpr std::uint64_t kSeed = 7;

// Weights, the workspace and the probe have to fit; a smaller probe still is far larger than a cache.
std::size_t probe_bytes(const Problem& problem) {
  const std::size_t have = bench::available_memory();
  if (have == 0) return kProbeBytes / 4;
  const double weights = static_cast<double>(bench::expert_bytes(problem)) * static_cast<double>(problem.experts);
  const double free = kMemoryShare * static_cast<double>(have) - weights;
  if (free < static_cast<double>(kProbeBytes) / 8)
    throw Error(Code::kOutOfMemory, "bench: the weights take ", human_bytes(weights), ", ",
                human_bytes(static_cast<double>(have)), " are free; --experts makes the layer smaller");
  return std::min(kProbeBytes, static_cast<std::size_t>(free / 2));
}

// A benchmark of wrong results is worth nothing.
void check_first(const Plan& plan, const ExpertSource& source) {
  const auto tokens = bench::random_tokens(plan.problem(), kCheckedTokens, bench::RouteKind::kUniform, kSeed);
  const bench::OracleCheck check = bench::check_with_oracle(plan, source, tokens);
  if (!check.passed()) throw Error(Code::kInternal, "bench: ", plan.backend(), " is wrong: ", check.first_fault());
}

nlohmann::json to_json(const bench::Measurement& m) {
  return {{"tokens", m.tokens},
          {"median_us", m.median_s * 1e6},
          {"min_us", m.min_s * 1e6},
          {"repeats", m.repeats},
          {"active_experts", m.active_experts},
          {"weight_bytes", m.weight_bytes},
          {"weight_gb_per_s", m.weight_bytes / m.median_s * 1e-9},
          {"read_gb_per_s", m.read_bytes_per_s * 1e-9},
          {"read_share", m.weight_bytes / m.median_s / m.read_bytes_per_s},
          {"gflop_per_s", m.flops / m.median_s * 1e-9}};
}

void print_people(const Plan& plan, const std::vector<bench::Measurement>& all) {
  print_facts({{"problem", plan.problem().to_string()}, {"plan", plan.describe()}, {"CPU", cpu_model()}});
  print_line();
  Table table({{"tokens", Align::kRight},
               {"median", Align::kRight},
               {"experts read", Align::kRight},
               {"weights GB/s", Align::kRight},
               {"plain read GB/s", Align::kRight},
               {"share", Align::kRight},
               {"GFLOP/s", Align::kRight}});
  for (const bench::Measurement& m : all)
    table.add_row({fmt::format("{}", m.tokens), human_time(m.median_s), number(m.active_experts, 1),
                   number(m.weight_bytes / m.median_s * 1e-9, 1), number(m.read_bytes_per_s * 1e-9, 1),
                   number(m.weight_bytes / m.median_s / m.read_bytes_per_s, 2),
                   number(m.flops / m.median_s * 1e-9, 1)});
  table.print();
  print_line();
  print_line("weights GB/s counts each expert that a token chose once; share is of the plain read measured beside it.");
}

int run(const Options& options) {
  const ChosenLayer layer = choose_layer(options.layer);
  bench::ReadProbe probe(probe_bytes(layer.problem), options.threads);
  message(fmt::format("preparing {} experts", layer.problem.experts));
  const auto weights = prepare(layer.problem, *layer.source, {.backend = options.backend, .threads = options.threads});
  const std::int64_t most = *std::max_element(options.tokens.begin(), options.tokens.end());
  const Plan plan(weights, {.max_tokens = std::max(most, kCheckedTokens), .threads = options.threads});
  message(fmt::format("checking {} tokens against the double-precision oracle", kCheckedTokens));
  check_first(plan, *layer.source);

  std::vector<bench::Measurement> all;
  for (const std::int64_t tokens : options.tokens) {
    message(fmt::format("timing {} tokens", tokens));
    std::vector<bench::Tokens> batches;
    for (int b = 0; b < kBatches; ++b)
      batches.push_back(bench::random_tokens(layer.problem, tokens, bench::RouteKind::kUniform,
                                             kSeed + static_cast<std::uint64_t>(b) + 1));
    all.push_back(bench::measure_layer(plan, batches, &probe, {.seconds = options.seconds, .rounds = 5}));
  }
  if (!options.json) {
    print_people(plan, all);
    return kDone;
  }
  nlohmann::json results = nlohmann::json::array();
  for (const bench::Measurement& m : all) results.push_back(to_json(m));
  print_json({{"problem", plan.problem().to_string()},
              {"shape", options.layer.shape},
              {"backend", plan.backend()},
              {"plan", plan.describe()},
              {"cpu", cpu_model()},
              {"threads", options.threads == 0 ? machine_threads() : options.threads},
              {"prepared_bytes", weights->bytes()},
              {"verified_tokens", kCheckedTokens},
              {"results", results}});
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "bench", "Time one layer of random weights beside this machine's read bandwidth",
            "megamoe bench --shape deepseek-v4-flash --experts 16 --tokens 1,16,256 --activations int8", options->json);
  add_layer_options(verb, options->layer, false);
  verb.integers("--tokens", options->tokens, 1, "Tokens of a call; several, separated by commas");
  verb.number("--seconds", options->seconds, 0, "Time spent on each number of tokens, about");
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
