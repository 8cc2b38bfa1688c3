// megamoe inspect: what a checkpoint holds, and everything that is wrong with it.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "findings_output.h"
#include "json_output.h"
#include "megamoe/checkpoint.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  std::string dir;
  bool json = false;
};

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

nlohmann::json to_json(const InspectReport& report) {
  nlohmann::json files = nlohmann::json::array();
  for (const FileReport& file : report.files)
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"tensors", file.tensors}});
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerReport& layer : report.layers)
    layers.push_back({{"index", layer.index},
                      {"weights", layer.weights},
                      {"shared", layer.shared},
                      {"expert_tensors", layer.expert_tensors},
                      {"expert_tensors_expected", layer.expert_tensors_expected},
                      {"expert_bytes", layer.expert_bytes}});
  return {{"dir", report.dir},
          {"family", report.family},
          {"dialect", report.dialect},
          {"prefix", report.prefix},
          {"problem", report.problem.to_string()},
          {"hidden", report.problem.hidden},
          {"inter", report.problem.inter},
          {"experts", report.problem.experts},
          {"top_k", report.problem.top_k},
          {"routing", report.routing},
          {"files", files},
          {"layers", layers},
          {"tensors", report.tensors},
          {"bytes", report.bytes},
          {"expert_bytes", report.expert_bytes},
          {"bits_per_expert_weight", report.bits_per_expert_weight},
          {"problems", findings_json(report.problems)},
          {"notes", findings_json(report.notes)}};
}

void print_layers(const InspectReport& report) {
  Table table({{"layer", Align::kRight},
               {"experts"},
               {"shared"},
               {"tensors", Align::kRight},
               {"expected", Align::kRight},
               {"size", Align::kRight}});
  for (const LayerReport& layer : report.layers)
    table.add_row({fmt::format("{}", layer.index), layer.weights, layer.shared.empty() ? "none" : layer.shared,
                   fmt::format("{}", layer.expert_tensors), fmt::format("{}", layer.expert_tensors_expected),
                   human_bytes(static_cast<double>(layer.expert_bytes))});
  table.print();
}

void print_people(const InspectReport& report) {
  print_facts({{"model", report.dir},
               {"family", or_unknown(report.family)},
               {"dialect", or_unknown(report.dialect)},
               {"layer", report.problem.to_string()},
               {"routing", or_unknown(report.routing)},
               {"files", fmt::format("{} with {} tensors, {}", report.files.size(), report.tensors,
                                     human_bytes(static_cast<double>(report.bytes)))},
               {"experts", fmt::format("{}, {} bits a weight", human_bytes(static_cast<double>(report.expert_bytes)),
                                       number(report.bits_per_expert_weight, 2))}});
  print_line();
  print_layers(report);
  print_findings("note", report.notes);
  if (report.problems.empty()) {
    print_line();
    print_line(good("no problem found"));
    return;
  }
  print_findings("problem", report.problems);
}

int run(const Options& options) {
  const InspectReport report = inspect(options.dir);
  if (options.json)
    print_json(to_json(report));
  else
    print_people(report);
  return report.problems.empty() ? kDone : kCheckFailed;
}

}  // namespace

void add_inspect(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "inspect", "What a checkpoint holds, and everything that is wrong with it",
            "megamoe inspect Qwen3-30B-A3B-NVFP4", options->json);
  verb.text("DIR", options->dir, "Directory with config.json and safetensors files", Need::kRequired);
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
