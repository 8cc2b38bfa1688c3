// megamoe bench: times one layer of random weights beside what the machine can do at best.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string_view>
#include <vector>

#include "bench/cuda_layer_timer.h"
#include "bench/oracle_check.h"
#include "bench_output.h"
#include "bench_plot.h"
#include "bench_tools.h"
#include "command.h"
#include "json_output.h"
#include "layer_choice.h"
#include "machine.h"
#include "megamoe/error.h"
#include "megamoe/prepared_cache.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  LayerChoice layer;
  std::string stage = "layer";
  std::vector<std::int64_t> tokens{1, 16, 256};
  std::string routing = "uniform";
  std::string backend = "auto";
  int threads = 0;
  double seconds = 2.0;
  int repeat = 7;
  std::string isa;
  std::string cache;
  std::string graph = "call";
  double bf16_tflops = 0.0;
  bool json = false;
  bool csv = false;
  std::string plot;
};

constexpr std::size_t kProbeBytes = std::size_t{1} << 30;
constexpr std::int64_t kTokensCheckedOnHost = 2;
constexpr std::int64_t kTokensCheckedOnDevice = 4;  // machines with such devices have cores for the oracle
constexpr double kMemoryShare = 0.8;
constexpr std::uint64_t kSeed = 7;

std::vector<bench::Route> parse_routings(const std::string& text) {
  std::vector<bench::Route> routes;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) routes.push_back(bench::parse_route(word));
  if (routes.empty()) throw Error(Code::kInvalidArgument, "routing: asked for none, accepted: one or several");
  return routes;
}

// Whether the backend that prepare will choose computes on a device; false where none can.
bool runs_on_device(const Problem& problem, std::string_view asked) {
  for (const Candidate& candidate : candidates(problem)) {
    const std::string_view family = candidate.backend.substr(0, candidate.backend.find('/'));
    if (candidate.refusal.empty() && (asked == "auto" || asked == candidate.backend || asked == family))
      return family == "cuda";
  }
  return false;
}

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

// The options that say something about a backend of the other kind.
void refuse_options_of_others(const Options& options, bool on_device) {
  const Options unasked;
  if (on_device && options.repeat != unasked.repeat)
    throw Error(Code::kInvalidArgument, "--repeat ", options.repeat,
                ": asked of a backend on a CUDA device, accepted: of one that computes on the host");
  if (!on_device && (options.graph != unasked.graph || options.bf16_tflops != unasked.bf16_tflops))
    throw Error(Code::kInvalidArgument, options.graph != unasked.graph ? "--graph " + options.graph : "--bf16-tflops",
                ": asked of a backend that computes on the host, accepted: of one on a CUDA device");
}

// Times plans where they compute: on the host beside a probe of its memory, on a device beside its floors.
class Meter {
 public:
  Meter(const Problem& problem, const Options& options) : options_(options) {
    const bool on_device = runs_on_device(problem, options.backend);
    // A device that was asked for by name may not be there; prepare says so.
    refuse_options_of_others(options, on_device || options.backend.starts_with("cuda"));
    if (on_device) {
      message("measuring what the device can do");
      floors_ = bench::measure_device_floors(options.bf16_tflops);
    } else {
      read_ = std::make_unique<bench::ReadProbe>(probe_bytes(problem), options.threads);
      compute_ = std::make_unique<bench::ComputeProbe>(options.threads);
    }
  }

  const std::optional<bench::DeviceFloors>& floors() const { return floors_; }

  // A benchmark of wrong results is worth nothing: the last of the batches is judged before they are timed.
  BenchResult measure(const Plan& plan, const ExpertSource& source, std::span<const bench::Tokens> batches) {
    const std::int64_t sample = floors_ ? kTokensCheckedOnDevice : kTokensCheckedOnHost;
    const bench::SampleCheck judged = bench::check_sample_with_oracle(plan, source, batches.back(), sample);
    if (!judged.check.passed())
      throw Error(Code::kInternal, "bench: ", plan.backend(), " is wrong with ", batches.back().count,
                  " tokens: ", judged.check.first_fault());
    BenchResult result;
    result.verified_tokens = judged.judged;
    result.measured = floors_ ? on_device(plan, batches, judged.output)
                              : bench::measure_layer(plan, batches, {.read = read_.get(), .compute = compute_.get()},
                                                     {.seconds = options_.seconds, .rounds = options_.repeat});
    return result;
  }

 private:
  bench::Measurement on_device(const Plan& plan, std::span<const bench::Tokens> batches,
                               const std::vector<std::uint16_t>& judged) const {
    const auto graph = options_.graph == "chain" ? bench::GraphOf::kChain : bench::GraphOf::kCall;
    bench::DeviceMeasurement done =
        bench::measure_layer_on_device(plan, batches, {.seconds = options_.seconds, .graph = graph});
    if (done.last_output != judged)
      throw Error(Code::kInternal, "bench: ", plan.backend(), ": a replayed graph of ", batches.back().count,
                  " tokens leaves other bits than the call that the oracle judged");
    done.times.read_bytes_per_s = floors_->read_bytes_per_s;
    done.times.peak_flops_per_s = floors_->bf16_flops_per_s;
    bench::set_shares(done.times);
    return done.times;
  }

  const Options& options_;
  std::optional<bench::DeviceFloors> floors_;  // one of the two
  std::unique_ptr<bench::ReadProbe> read_;
  std::unique_ptr<bench::ComputeProbe> compute_;
};

// Batches in rotation: one that ran is not found in a cache when its turn comes again.
std::vector<bench::Tokens> make_batches(const Problem& problem, std::int64_t tokens, const bench::Route& route) {
  std::vector<bench::Tokens> batches;
  const int count = bench::batches_of_a_round(problem, tokens);
  for (int b = 0; b < count; ++b)
    batches.push_back(bench::random_tokens(problem, tokens, route, kSeed + static_cast<std::uint64_t>(b) + 1));
  if (route.kind == bench::RouteKind::kUniform) bench::rotate_experts(problem, batches);
  return batches;
}

std::shared_ptr<const PreparedWeights> weights_of(const Options& options, const ChosenLayer& layer) {
  if (options.cache.empty())
    return prepare(layer.problem, *layer.source, {.backend = options.backend, .threads = options.threads});
  if (options.layer.dir.empty())
    throw Error(Code::kInvalidArgument, "--cache: asked without DIR, accepted: with the checkpoint it was made of");
  const Checkpoint checkpoint = Checkpoint::open(options.layer.dir);
  MoeLayer named = checkpoint.layer(options.layer.layer);
  named.problem = layer.problem;
  return load_layer(checkpoint, named, options.cache, options.backend);
}

// The options that say something about runs of a layer.
std::vector<std::string_view> options_of_runs(const Options& options) {
  const Options unasked;
  std::vector<std::string_view> names;
  const auto add = [&](bool given, std::string_view name) {
    if (given) names.push_back(name);
  };
  add(options.tokens != unasked.tokens, "--tokens");
  add(options.routing != unasked.routing, "--routing");
  add(options.isa != unasked.isa, "--isa");
  add(options.graph != unasked.graph, "--graph");
  add(options.bf16_tflops != unasked.bf16_tflops, "--bf16-tflops");
  add(options.cache != unasked.cache, "--cache");
  add(options.csv != unasked.csv, "--csv");
  add(options.plot != unasked.plot, "--plot");
  return names;
}

int run_stage(const Options& options) {
  if (const auto names = options_of_runs(options); !names.empty())
    throw Error(Code::kInvalidArgument, "--stage ", options.stage, ": asked with ",
                fmt::format("{}", fmt::join(names, ", ")),
                ", accepted: without, for no layer runs; the result is a table or --json");
  if (options.backend.starts_with("cuda"))
    throw Error(Code::kInvalidArgument, "--stage ", options.stage, ": asked with --backend ", options.backend,
                ", accepted: a backend of the host, whose memory is the floor");
  run_tool_bench({.stage = options.stage,
                  .layer = choose_layer(options.layer),
                  .backend = options.backend == "auto" ? "cpu" : options.backend,
                  .threads = options.threads,
                  .timer = {.seconds = options.seconds, .rounds = options.repeat},
                  .json = options.json});
  return kDone;
}

int run(const Options& options) {
  if (options.stage != "layer") return run_stage(options);
  const std::vector<bench::Route> routes = parse_routings(options.routing);
  const ChosenLayer layer = choose_layer(options.layer);
  Meter meter(layer.problem, options);
  message(fmt::format("preparing {} experts", layer.problem.experts));
  const auto weights = weights_of(options, layer);
  const std::int64_t most = *std::max_element(options.tokens.begin(), options.tokens.end());
  const Plan plan(weights, {.max_tokens = most, .threads = options.threads, .isa = options.isa});

  BenchRecord record;
  record.problem = plan.problem().to_string();
  record.shape = options.layer.shape;
  record.backend = plan.backend();
  record.plan = plan.describe();
  record.threads = options.threads == 0 ? machine_threads() : options.threads;
  record.prepared_bytes = weights->bytes();
  record.floors = meter.floors();
  record.graph = options.graph;
  record.rounds = options.repeat;
  for (const bench::Route& route : routes)
    for (const std::int64_t tokens : options.tokens) {
      message(fmt::format("checking and timing {} tokens, {}", tokens, route.to_string()));
      record.results.push_back(meter.measure(plan, *layer.source, make_batches(layer.problem, tokens, route)));
      record.results.back().routing = route.to_string();
    }
  if (!options.plot.empty()) write_bench_plot(record, options.plot);
  if (options.json)
    print_json(bench_json(record));
  else if (options.csv)
    print_bench_csv(record);
  else
    print_bench(record);
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(
      app, session, "bench", "Time one layer of random weights beside what this machine can do at best",
      "megamoe bench --shape deepseek-v4-flash --experts 16 --tokens 1,16,256 --activations int8 --plot times.svg",
      options->json);
  add_layer_options(verb, options->layer, true);
  verb.choice(
      "--stage", options->stage, {"layer", "prepare", "quantize"},
      "layer: runs of a layer; prepare or quantize: that work in memory on the host, beside a copy or a plain read "
      "of the same bytes");
  verb.text("--cache", options->cache, "With DIR: directory that 'megamoe prepare' wrote; weights are mapped");
  verb.integers("--tokens", options->tokens, 1, "Tokens of a call; several, separated by commas");
  verb.text("--routing", options->routing,
            "How tokens choose experts: uniform, skew, dropped, zipf:S (popularity 1 / rank^S); several, separated by "
            "commas");
  verb.number("--seconds", options->seconds, 0, "Time spent on each number of tokens, about");
  verb.integer("--repeat", options->repeat, 1,
               "On the host: rounds of that time, each between two readings of what the machine can do");
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  add_isa_option(verb, options->isa);
  verb.choice("--graph", options->graph, {"call", "chain"},
              "On a CUDA device: a captured graph holds one call, or all batches one after the other");
  verb.number("--bf16-tflops", options->bf16_tflops, 0,
              "On a CUDA device: its rate with BF16 matrices; 0: measured, where cuBLASLt is found");
  verb.flag("--csv", options->csv, "Comma-separated values on standard output, a line for each result");
  verb.excludes("--csv", "--json");
  verb.text("--plot", options->plot, "Draw time and share of the floor over tokens into this SVG file");
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
