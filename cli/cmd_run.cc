// megamoe run: one MoE block of a checkpoint on hidden states: router, routed experts, shared experts.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "bench/layer_timer.h"
#include "command.h"
#include "comparison.h"
#include "json_output.h"
#include "layer_choice.h"
#include "machine.h"
#include "megamoe/checkpoint.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/moe_block.h"
#include "megamoe/prepared_cache.h"
#include "messages.h"
#include "output.h"
#include "tensor_argument.h"

namespace megamoe::cli {
namespace {

struct Options {
  std::string dir;
  std::int64_t layer = -1;
  std::string input;
  std::string output;
  std::string expect;
  std::string activations;
  std::string backend = "auto";
  std::string output_dtype = "bf16";
  int threads = 0;
  std::string isa;
  std::string cache;
  std::int64_t repeat = 5;
  double max_error = -1;  // below 0: no limit
  bool probe = false;
  bool json = false;
};

constexpr std::size_t kProbeBytes = std::size_t{1} << 30;

struct Result {
  RoutedTokens routed;
  std::vector<float> output;  // [tokens, hidden]
  double router_s = 0;
  double median_s = 0;
  double read_bytes_per_s = 0;
};

double seconds_of(const auto& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Result compute(MoeBlock& block, std::span<const std::uint16_t> x, const Options& options) {
  Result result;
  result.output.resize(x.size());
  std::optional<bench::ReadProbe> probe;
  std::vector<double> readings;
  if (options.probe) probe.emplace(std::min(kProbeBytes, bench::available_memory() / 4), options.threads);
  result.router_s = seconds_of([&] { result.routed = block.route(x); });
  std::vector<double> seconds;
  for (std::int64_t i = 0; i < options.repeat; ++i) {
    if (probe) readings.push_back(probe->read_once());
    seconds.push_back(seconds_of([&] { block.run(x, result.routed, std::span(result.output)); }));
  }
  result.median_s = bench::median(seconds);
  if (probe) result.read_bytes_per_s = bench::median(readings);
  return result;
}

// Writing over what is read would destroy it.
void refuse_output_over_input(const Options& options, const std::string& input, const std::string& expect) {
  namespace fs = std::filesystem;
  if (options.output.empty()) return;
  std::error_code ignored;  // a path that does not exist is no other file
  const auto same = [&](const std::string& path) {
    return !path.empty() && fs::equivalent(options.output, path, ignored);
  };
  if (same(input) || same(expect))
    throw Error(Code::kInvalidArgument, "--output: asked '", options.output, "', which is read in this run");
  const fs::path parent = fs::path(options.output).has_parent_path() ? fs::path(options.output).parent_path() : ".";
  if (fs::equivalent(parent, options.dir, ignored))
    throw Error(Code::kInvalidArgument, "--output: asked '", options.output, "', which lies in the model's directory");
}

void write_output(const Options& options, const std::vector<float>& output, const Shape& shape) {
  if (options.output_dtype == "f32") {
    const NamedTensor tensor{"output", {output.data(), DType::kF32, shape}};
    write_tensor_file(options.output, {&tensor, 1});
    return;
  }
  std::vector<std::uint16_t> rounded;
  for (const float value : output) rounded.push_back(bf16_from_float(value));
  const NamedTensor tensor{"output", {rounded.data(), DType::kBF16, shape}};
  write_tensor_file(options.output, {&tensor, 1});
}

std::vector<std::int64_t> expert_load(const Problem& problem, std::span<const std::int32_t> topk_ids) {
  std::vector<std::int64_t> load(static_cast<std::size_t>(problem.experts));
  for (const std::int32_t id : topk_ids)
    if (id >= 0) ++load[static_cast<std::size_t>(id)];
  return load;
}

nlohmann::json to_json(const Options& options, const MoeBlock& block, const RoutingRule& routing, const Result& result,
                       double bytes_read, double flops, std::int64_t tokens) {
  const Problem& problem = block.plan().problem();
  nlohmann::json refusals = nlohmann::json::object();
  for (const Candidate& candidate : candidates(problem))
    if (!candidate.refusal.empty()) refusals[std::string(candidate.backend)] = candidate.refusal;
  nlohmann::json json{{"layer", options.layer},
                      {"tokens", tokens},
                      {"problem", problem.to_string()},
                      {"routing", routing.to_string()},
                      {"activations", name(problem.activations)},
                      {"backend", block.plan().backend()},
                      {"plan", block.plan().describe()},
                      {"refusals", refusals},
                      {"threads", options.threads == 0 ? machine_threads() : options.threads},
                      {"repeats", options.repeat},
                      {"time_ms", result.median_s * 1e3},
                      {"router_ms", result.router_s * 1e3},
                      {"bytes_read", static_cast<std::uint64_t>(bytes_read)},
                      {"gb_per_s", bytes_read / result.median_s * 1e-9},
                      {"gflop_per_s", flops / result.median_s * 1e-9},
                      {"poisoned_tokens", result.routed.poisoned},
                      {"expert_load", expert_load(problem, result.routed.topk_ids)}};
  if (options.probe) {
    json["read_gb_per_s"] = result.read_bytes_per_s * 1e-9;
    json["read_share"] = bytes_read / result.median_s / result.read_bytes_per_s;
  }
  if (!options.output.empty()) json["output"] = options.output;
  return json;
}

void print_people(const nlohmann::json& json, const Result& result) {
  const auto decimal = [&](const char* key, int digits) { return number(json[key].get<double>(), digits); };
  std::vector<std::pair<std::string, std::string>> facts{
      {"problem", json["problem"]},
      {"routing", json["routing"]},
      {"plan", json["plan"]},
      {"tokens", fmt::format("{}", json["tokens"].get<std::int64_t>())},
      {"time", fmt::format("{} (median of {}), router {}", human_time(result.median_s),
                           json["repeats"].get<std::int64_t>(), human_time(result.router_s))},
      {"weights read", human_bytes(json["bytes_read"].get<double>())},
      {"rate", fmt::format("{} GB/s of weights, {} GFLOP/s", decimal("gb_per_s", 2), decimal("gflop_per_s", 1))}};
  if (json.contains("read_share"))
    facts.emplace_back("plain read", fmt::format("{} GB/s measured beside it: share {}", decimal("read_gb_per_s", 1),
                                                 decimal("read_share", 2)));
  for (const auto& [backend, refusal] : json["refusals"].items())
    facts.emplace_back("not " + backend, refusal.get<std::string>());
  if (json.contains("rel_error"))
    facts.emplace_back("error",
                       fmt::format("relative {:.6g}, cosine {:.8f}, largest {:.4g}", json["rel_error"].get<double>(),
                                   json["cosine"].get<double>(), json["max_abs"].get<double>()));
  if (result.routed.poisoned != 0)
    facts.emplace_back(
        "poisoned", fmt::format("{} tokens had NaN or infinite logits: their output is NaN", result.routed.poisoned));
  if (json.contains("output")) facts.emplace_back("written", json["output"]);
  print_facts(facts);
}

int run(const Options& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.dir);
  MoeLayer layer = checkpoint.layer(options.layer);
  for (const Finding& note : layer.notes) message(note.to_string());
  if (!options.activations.empty()) layer.problem.activations = parse_activations(options.activations);

  const TensorArgument input = parse_tensor_argument("--input", options.input);
  const TensorArgument expect =
      options.expect.empty() ? TensorArgument{} : parse_tensor_argument("--expect", options.expect);
  refuse_output_over_input(options, input.file, expect.file);
  const HostTensor states = read_matrix(input, layer.problem.hidden);
  if (states.dtype != DType::kBF16)
    message(fmt::format("{}: rounded from {} to BF16", input.tensor, dtype_name(states.dtype)));
  const std::vector<std::uint16_t> x = to_bf16(states);
  std::vector<float> expected;
  if (!options.expect.empty()) {
    const HostTensor tensor = read_matrix(expect, layer.problem.hidden);
    if (tensor.shape != states.shape)
      throw Error(Code::kBadFile, expect.file, ": ", expect.tensor, ": expected ", states.shape.to_string(),
                  " as the input, found ", tensor.shape.to_string());
    expected = to_f32(tensor);
  }

  const std::int64_t tokens = states.shape[0];
  MoeBlock block(
      layer,
      {.backend = options.backend,
       .threads = options.threads,
       .max_tokens = tokens,
       .isa = options.isa,
       .weights = options.cache.empty() ? nullptr : load_layer(checkpoint, layer, options.cache, options.backend)});
  const Result result = compute(block, x, options);
  const Problem& problem = block.plan().problem();
  const double bytes_read = bench::read_bytes(problem, result.routed.topk_ids, tokens);
  nlohmann::json json = to_json(options, block, layer.routing, result, bytes_read,
                                bench::layer_flops(problem, result.routed.topk_ids, tokens), tokens);
  if (!options.output.empty()) write_output(options, result.output, states.shape);

  ExitCode code = kDone;
  if (!expected.empty()) {
    const Comparison comparison = compare(result.output, expected);
    json.update({{"rel_error", comparison.rel_error}, {"cosine", comparison.cosine}, {"max_abs", comparison.max_abs}});
    if (options.max_error >= 0 && !(comparison.rel_error <= options.max_error)) code = kCheckFailed;
  }
  if (options.json)
    print_json(json);
  else
    print_people(json, result);
  if (code == kCheckFailed) error(fmt::format("rel_error is above --max-error {}", options.max_error));
  return code;
}

}  // namespace

void add_run(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "run", "One MoE block of a checkpoint on hidden states, router included",
            "megamoe run model-nvfp4 --layer 3 --input states.safetensors:x --output y.safetensors --activations int8",
            options->json);
  verb.text("DIR", options->dir, "Directory of the checkpoint", Need::kRequired);
  verb.integer("--layer", options->layer, 0, "The layer's number", Need::kRequired);
  verb.text("--input", options->input, "FILE:TENSOR, hidden states [tokens, hidden] of BF16, F16 or F32",
            Need::kRequired);
  verb.text("--output", options->output, "Safetensors file to write; its tensor is named 'output'");
  verb.choice("--output-dtype", options->output_dtype, {"bf16", "f32"}, "Type of the tensor written");
  verb.text("--expect", options->expect, "FILE:TENSOR to compare with; errors are those of the f32 sum, unrounded");
  verb.number("--max-error", options->max_error, 0, "Exit with 1 where the relative error is larger");
  verb.needs("--max-error", "--expect");
  add_activations_option(verb, options->activations);
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  add_isa_option(verb, options->isa);
  verb.text("--cache", options->cache, "Directory that 'megamoe prepare' wrote: weights are mapped, not prepared");
  verb.integer("--repeat", options->repeat, 1, "Runs, of which the median time is reported");
  verb.flag("--probe", options->probe, "Also measure this machine's read bandwidth between the runs");
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
