// NVIDIA ModelOpt: codes in .weight, multipliers as 0-d scalars, configs in config.json and hf_quant_config.json.
// Source: NVIDIA/Model-Optimizer, modelopt/torch/export.
//
// What is written without input scales says W4A16_NVFP4: the file describes weights, and NVFP4 would promise an
// input_scale per matrix, which loaders read uninitialised when it is not there. How activations are quantised is the
// engine's business then; megamoe's own scales of activations are per token and need nothing from the file.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/dialects/dialect.h"

namespace megamoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kGroupSize = 16;

// What one of the two files says; the other should say the same under other names.
struct Said {
  std::string file;
  std::string algo;
  std::optional<std::int64_t> group_size;
  std::optional<std::set<std::string>> ignored;
  std::map<std::string, std::string> layers;  // of MIXED_PRECISION: module -> algo
  bool has_kv_cache_scheme = false;
};

void read_layers(ConfigReader& block, Said& said) {
  std::optional<ConfigReader> layers = block.object("quantized_layers");
  if (!layers) return;
  for (const std::string& module : layers->keys())
    if (std::optional<ConfigReader> layer = layers->object(module)) said.layers[module] = layer->text("quant_algo");
}

Said read_config_json(ConfigReader& block) {
  Said said;
  said.file = "config.json";
  said.algo = block.text_or("quant_algo", "");
  for (const std::string_view key : {"ignore", "exclude_modules"})
    if (block.has(key)) {
      const std::vector<std::string> list = block.texts_or_empty(key);
      said.ignored.emplace(list.begin(), list.end());
    }
  if (block.has("group_size")) said.group_size = block.size("group_size");
  said.has_kv_cache_scheme = block.has("kv_cache_scheme");
  read_layers(block, said);
  return said;
}

Said read_hf_quant(ConfigReader& top) {
  Said said;
  said.file = "hf_quant_config.json";
  std::optional<ConfigReader> block = top.object("quantization");
  if (!block) {
    if (!top.has("quantization")) top.fail(0, "quantization: missing");
    return said;
  }
  said.algo = block->text("quant_algo");
  if (block->has("group_size")) said.group_size = block->size("group_size");
  if (block->has("exclude_modules")) {
    const std::vector<std::string> list = block->texts_or_empty("exclude_modules");
    said.ignored.emplace(list.begin(), list.end());
  }
  said.has_kv_cache_scheme = block->has("kv_cache_quant_algo");
  read_layers(*block, said);
  return said;
}

void require_agreement(const Said& a, const Said& b, Findings& findings) {
  const auto disagree = [&](const auto&... parts) {
    findings.add(10, "", b.file, parts..., " (", a.file, " says otherwise; accepted: the same in both)");
  };
  if (!a.algo.empty() && !b.algo.empty() && a.algo != b.algo) disagree("quant_algo: found ", b.algo, " and ", a.algo);
  if (a.group_size && b.group_size && a.group_size != b.group_size)
    disagree("group_size: found ", *b.group_size, " and ", *a.group_size);
  if (a.ignored && b.ignored && a.ignored != b.ignored) {
    std::vector<std::string> odd;
    std::ranges::set_symmetric_difference(*a.ignored, *b.ignored, std::back_inserter(odd));
    disagree("exclude_modules: ", odd.front(), " is excluded in one file only");
  }
  if (!a.layers.empty() && !b.layers.empty() && a.layers != b.layers)
    disagree("quantized_layers: the lists are not the same");
}

ModuleQuant quant_of(const std::string& algo) {
  if (algo == "NVFP4") return {.kind = ModuleQuant::Kind::kNvfp4, .input_scales = true, .other = {}};
  if (algo == "W4A16_NVFP4") return {.kind = ModuleQuant::Kind::kNvfp4, .input_scales = false, .other = {}};
  return {.kind = ModuleQuant::Kind::kOther, .input_scales = false, .other = algo};
}

QuantConfig read_config(const ConfigFiles& files, Findings& findings) {
  ConfigReader config(files.config, findings);
  std::vector<Said> said;
  if (std::optional<ConfigReader> block = quantization_block(config)) said.push_back(read_config_json(*block));
  if (files.hf_quant) {
    ConfigReader hf_quant(*files.hf_quant, findings);
    said.push_back(read_hf_quant(hf_quant));
  }
  if (said.size() == 2) require_agreement(said[0], said[1], findings);

  Said all;  // the first file that says something about a thing
  for (const Said& file : said) {
    if (all.algo.empty() && !file.algo.empty()) {
      all.algo = file.algo;
      all.file = file.file;
    }
    if (!all.group_size) all.group_size = file.group_size;
    if (!all.ignored) all.ignored = file.ignored;
    if (all.layers.empty()) all.layers = file.layers;
    all.has_kv_cache_scheme |= file.has_kv_cache_scheme;
  }

  QuantConfig result;
  result.has_kv_cache_scheme = all.has_kv_cache_scheme;
  if (all.ignored)
    for (const std::string& pattern : *all.ignored)
      if (!result.ignored.add(pattern))
        findings.add(0, "", all.file, "exclude_modules: ", pattern,
                     " can not be read, accepted: a name, * or re:regex");
  if (all.group_size && *all.group_size != kGroupSize)
    findings.add_unsupported(0, "", all.file, "group_size: found ", *all.group_size, ", accepted: ", kGroupSize);

  if (all.algo == "MIXED_PRECISION") {
    if (all.layers.empty()) findings.add(0, "", all.file, "quantized_layers: missing for MIXED_PRECISION");
    std::map<std::string, QuantConfig::Group> by_algo;
    for (const auto& [module, algo] : all.layers) {
      QuantConfig::Group& group = by_algo[algo];
      group.quant = quant_of(algo);
      group.targets.add(module);
    }
    for (auto& [algo, group] : by_algo) result.groups.push_back(std::move(group));
  } else if (const ModuleQuant quant = quant_of(all.algo); quant.kind == ModuleQuant::Kind::kNvfp4) {
    QuantConfig::Group& group = result.groups.emplace_back();
    group.all_linear = true;
    group.quant = quant;
  } else {
    findings.add_unsupported(0, "", all.file, "quant_algo: found ", all.algo.empty() ? "nothing" : all.algo,
                             ", accepted: NVFP4, W4A16_NVFP4, MIXED_PRECISION");
  }
  return result;
}

std::vector<SideFile> write_config(const WrittenQuant& quant, Json& config) {
  const std::string_view algo = quant.input_scales ? "NVFP4" : "W4A16_NVFP4";
  const Json producer = {{"name", "megamoe"}, {"version", MEGAMOE_VERSION}};
  const Json weights = {{"dynamic", false}, {"num_bits", 4}, {"type", "float"}, {"group_size", kGroupSize}};

  Json group;
  if (quant.input_scales) group["input_activations"] = weights;
  group["weights"] = weights;
  group["targets"] = Json::array({"Linear"});
  Json& block = config["quantization_config"];
  block["config_groups"]["group_0"] = std::move(group);
  block["ignore"] = quant.unquantised;
  block["quant_algo"] = algo;
  block["producer"] = producer;
  block["quant_method"] = "modelopt";

  Json hf_quant;
  hf_quant["producer"] = producer;
  // Loaders refuse NVFP4 where one of these four is missing.
  hf_quant["quantization"] = {{"quant_algo", algo},
                              {"kv_cache_quant_algo", nullptr},
                              {"group_size", kGroupSize},
                              {"exclude_modules", quant.unquantised}};
  return {{"hf_quant_config.json", hf_quant.dump(4) + "\n"}};
}

}  // namespace

extern const Dialect kModelopt;
const Dialect kModelopt{.name = "modelopt",
                        .quant_method = "modelopt",
                        .codes = ".weight",
                        .sf = ".weight_scale",
                        .global = ".weight_scale_2",
                        .input = ".input_scale",
                        .stores_reciprocals = false,
                        .scalar_rank = 0,
                        .read_config = read_config,
                        .write_config = write_config};

}  // namespace megamoe
