// megamoe info: what this build can do on this machine.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "json_output.h"
#include "machine.h"
#include "megamoe/checkpoint.h"
#include "megamoe/device.h"
#include "megamoe/moe.h"
#include "megamoe/quant.h"
#include "output.h"
#include "support_table.h"

namespace megamoe::cli {
namespace {

struct Options {
  bool json = false;
  bool table = false;
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::vector<std::string> strings(const auto& views) { return {views.begin(), views.end()}; }

// The default problem: NVFP4 weights with bf16 activations, small.
std::vector<Candidate> default_candidates() { return candidates(parse_problem("h=64 i=32 e=4 k=2")); }

std::vector<std::string> recipes() {
  std::vector<std::string> names;
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kBridge, QuantRecipe::kFourSix, QuantRecipe::kMse})
    names.emplace_back(quant_recipe_name(recipe));
  return names;
}

nlohmann::json gpus_json(const CudaDevices& devices) {
  nlohmann::json list = nlohmann::json::array();
  for (const DeviceInfo& device : devices.list)
    list.push_back({{"name", device.name},
                    {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                    {"multiprocessors", device.multiprocessors},
                    {"memory_bytes", device.memory_bytes}});
  return list;
}

// One fact a GPU, or the reason why there is none.
std::vector<std::pair<std::string, std::string>> gpu_facts(const CudaDevices& devices) {
  std::vector<std::pair<std::string, std::string>> facts;
  for (const DeviceInfo& device : devices.list)
    facts.emplace_back("GPU", fmt::format("{}, compute capability {}.{}, {} multiprocessors, {}", device.name,
                                          device.major, device.minor, device.multiprocessors,
                                          human_bytes(static_cast<double>(device.memory_bytes))));
  if (facts.empty()) facts.emplace_back("GPU", "none: " + devices.absent);
  return facts;
}

nlohmann::json to_json() {
  const CudaDevices devices = cuda_devices();
  nlohmann::json backends = nlohmann::json::array();
  for (const Candidate& candidate : default_candidates())
    backends.push_back(
        {{"name", candidate.backend}, {"usable", candidate.refusal.empty()}, {"refusal", candidate.refusal}});
  return {{"version", MEGAMOE_VERSION},
          {"cpu", cpu_model()},
          {"instruction_sets", instruction_sets()},
          {"kernels", cpu_instruction_sets()},
          {"threads", machine_threads()},
          {"gpus", gpus_json(devices)},
          {"no_gpu", devices.absent},
          {"backends", backends},
          {"dialects", strings(dialect_names())},
          {"families", strings(family_names())},
          {"recipes", recipes()}};
}

void print_people() {
  std::vector<std::pair<std::string, std::string>> facts{{"megamoe", MEGAMOE_VERSION},
                                                         {"CPU", cpu_model()},
                                                         {"instruction sets", joined(instruction_sets())},
                                                         {"kernels", joined(cpu_instruction_sets())},
                                                         {"threads", fmt::format("{}", machine_threads())}};
  for (auto& fact : gpu_facts(cuda_devices())) facts.push_back(std::move(fact));
  facts.emplace_back("dialects", joined(strings(dialect_names())));
  facts.emplace_back("families", joined(strings(family_names())));
  facts.emplace_back("recipes", joined(recipes()));
  print_facts(facts);
  print_line();
  Table table({{"backend"}, {"usable"}, {"why not"}});
  for (const Candidate& candidate : default_candidates())
    table.add_row({std::string(candidate.backend), candidate.refusal.empty() ? "yes" : "no", candidate.refusal});
  table.print();
}

int run(const Options& options) {
  if (options.table)
    print_text(support_table());
  else if (options.json)
    print_json(to_json());
  else
    print_people();
  return kDone;
}

}  // namespace

void add_info(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "info", "What this build can do on this machine", "megamoe info", options->json);
  verb.flag("--support-table", options->table, "Backends against formats, as a Markdown table");
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
