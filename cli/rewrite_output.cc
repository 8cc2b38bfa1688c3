#include "rewrite_output.h"

#include <fmt/format.h>

#include <array>

#include "findings_output.h"
#include "json_output.h"
#include "output.h"

namespace megamoe::cli {
namespace {

constexpr std::array<const char*, 3> kMatrices{"gate", "up", "down"};

nlohmann::json to_json(const RewriteReport& report, const std::string& recipe) {
  nlohmann::json json{{"dialect", report.dialect},
                      {"input_bytes", report.input_bytes},
                      {"output_bytes", report.output_bytes},
                      {"input_expert_bytes", report.input_expert_bytes},
                      {"output_expert_bytes", report.output_expert_bytes},
                      {"matrices", report.matrices},
                      {"tensors_copied", report.tensors_copied},
                      {"tensors_written", report.tensors_written},
                      {"files", report.files},
                      {"notes", findings_json(report.notes)},
                      {"seconds", report.seconds},
                      {"input_gb_per_s", static_cast<double>(report.input_bytes) / report.seconds * 1e-9}};
  if (recipe.empty()) return json;
  json["recipe"] = recipe;
  json["layers"] = nlohmann::json::array();
  for (const RewriteReport::Layer& layer : report.layers) {
    nlohmann::json errors;
    for (std::size_t m = 0; m < kMatrices.size(); ++m)
      errors[kMatrices[m]] = {{"sqnr_db", layer.error[m].sqnr_db},
                              {"relative", layer.error[m].relative},
                              {"max_abs", layer.error[m].max_abs}};
    json["layers"].push_back({{"index", layer.index}, {"error", errors}});
  }
  return json;
}

void print_errors(const RewriteReport& report) {
  Table table({{"layer", Align::kRight},
               {"matrix"},
               {"relative error", Align::kRight},
               {"SQNR dB", Align::kRight},
               {"largest error", Align::kRight}});
  for (const RewriteReport::Layer& layer : report.layers)
    for (std::size_t m = 0; m < kMatrices.size(); ++m)
      table.add_row({fmt::format("{}", layer.index), kMatrices[m], number(layer.error[m].relative, 4),
                     number(layer.error[m].sqnr_db, 2), fmt::format("{:.3g}", layer.error[m].max_abs)});
  table.print();
}

std::string before_after(std::uint64_t before, std::uint64_t after) {
  return fmt::format("{} -> {}", human_bytes(static_cast<double>(before)), human_bytes(static_cast<double>(after)));
}

}  // namespace

void add_rewrite_options(Verb& verb, RewriteChoice& choice, RewriteOptions& options) {
  verb.text("DIR", choice.dir, "Directory of the model to read; it is never written to", Need::kRequired);
  verb.text("-o,--output", choice.out, "Directory to write; must be empty or not exist", Need::kRequired);
  verb.flag("--resume", options.resume, "Go on where a killed run of the same job stopped");
  verb.flag("--overwrite", options.overwrite,
            "Replace a model that is there: the whole directory, once the new one is complete");
  verb.excludes("--resume", "--overwrite");
}

void print_rewrite(const RewriteChoice& choice, const RewriteReport& report, const std::string& recipe) {
  if (choice.json) {
    print_json(to_json(report, recipe));
    return;
  }
  std::vector<std::pair<std::string, std::string>> facts{
      {"written", choice.out},
      {"dialect", report.dialect},
      {"experts", before_after(report.input_expert_bytes, report.output_expert_bytes)},
      {"model", before_after(report.input_bytes, report.output_bytes)},
      {"tensors", fmt::format("{} matrices in {}, {} tensors copied byte for byte", report.matrices,
                              report.dialect == "plain" ? "BF16" : "NVFP4", report.tensors_copied)},
      {"rate", human_rate(static_cast<double>(report.input_bytes), report.seconds)}};
  if (!recipe.empty()) facts.insert(facts.begin() + 2, {"recipe", recipe});
  print_facts(facts);
  if (!recipe.empty()) {
    print_line();
    print_errors(report);
  }
  print_findings("note", report.notes);
}

}  // namespace megamoe::cli
