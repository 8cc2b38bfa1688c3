// compressed-tensors, nvfp4-pack-quantized (llm-compressor): codes in .weight_packed, reciprocal global scales of shape
// [1], everything about them in config.json. Source: vllm-project/compressed-tensors.
//
// What is written without input scales has input_activations null (the scheme llm-compressor calls NVFP4A16).
#include <nlohmann/json.hpp>

#include "checkpoint/dialects/dialect.h"

namespace megamoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "nvfp4-pack-quantized";
constexpr std::int64_t kGroupSize = 16;

// The scheme of one group; `format` is the group's own, or the config's.
ModuleQuant read_scheme(ConfigReader& group, const std::string& format) {
  if (format != kFormat) return {.kind = ModuleQuant::Kind::kOther, .input_scales = false, .other = format};
  ModuleQuant quant{.kind = ModuleQuant::Kind::kNvfp4, .input_scales = false, .other = {}};
  std::optional<ConfigReader> weights = group.object("weights");
  if (!weights) {
    if (!group.has("weights")) group.fail(0, "weights: missing");
    return quant;
  }
  if (const std::int64_t bits = weights->size("num_bits"); bits != 4)
    weights->fail(10, "num_bits: found ", bits, ", accepted for ", kFormat, ": 4");
  if (const std::int64_t size = weights->size("group_size"); size != kGroupSize)
    weights->fail(10, "group_size: found ", size, ", accepted for ", kFormat, ": ", kGroupSize);
  weights->one_of("type", std::nullopt, {"float"});
  weights->one_of("strategy", "tensor_group", {"tensor_group"});
  if (!weights->flag_or("symmetric", true)) weights->fail_unsupported(0, "symmetric: found false, accepted: true");

  if (std::optional<ConfigReader> inputs = group.object("input_activations")) {
    if (const std::int64_t bits = inputs->size("num_bits"); bits != 4)
      inputs->fail_unsupported(0, "num_bits: found ", bits, ", accepted: 4, or no input_activations");
    // "local" quantises blocks on the fly below a stored global scale; true stores none.
    const bool is_dynamic = inputs->is_true("dynamic");
    quant.input_scales = !is_dynamic;
  }
  return quant;
}

QuantConfig read_config(const ConfigFiles& files, Findings& findings) {
  QuantConfig result;
  ConfigReader config(files.config, findings);
  std::optional<ConfigReader> block = quantization_block(config);
  if (!block) return result;

  block->one_of("quantization_status", "compressed", {"compressed"});
  const std::string format = block->text_or("format", "");
  for (const std::string& pattern : block->texts_or_empty("ignore"))
    if (!result.ignored.add(pattern))
      block->fail(0, "ignore: ", pattern, " can not be read, accepted: a name or re:regex");
  result.has_kv_cache_scheme = block->has("kv_cache_scheme");

  std::optional<ConfigReader> groups = block->object("config_groups");
  if (!groups) {
    if (!block->has("config_groups")) block->fail(0, "config_groups: missing");
    return result;
  }
  for (const std::string& name : groups->keys()) {
    std::optional<ConfigReader> reader = groups->object(name);
    if (!reader) continue;
    QuantConfig::Group& group = result.groups.emplace_back();
    group.quant = read_scheme(*reader, reader->text_or("format", format));
    for (const std::string& target : reader->texts_or_empty("targets")) {
      if (target == "Linear") group.all_linear = true;
      if (!group.targets.add(target))
        reader->fail(0, "targets: ", target, " can not be read, accepted: a name or re:regex");
    }
  }
  return result;
}

std::vector<SideFile> write_config(const WrittenQuant& quant, Json& config) {
  const auto scheme = [](const Json& dynamic) {
    return Json{{"num_bits", 4},
                {"type", "float"},
                {"symmetric", true},
                {"strategy", "tensor_group"},
                {"group_size", kGroupSize},
                {"dynamic", dynamic}};
  };
  Json group;
  group["targets"] = Json::array({"Linear"});
  group["weights"] = scheme(false);
  group["input_activations"] = quant.input_scales ? scheme("local") : Json(nullptr);
  group["output_activations"] = nullptr;
  group["format"] = kFormat;

  Json& block = config["quantization_config"];
  block["config_groups"]["group_0"] = std::move(group);
  block["format"] = kFormat;
  block["ignore"] = quant.unquantised;
  block["kv_cache_scheme"] = nullptr;
  block["quant_method"] = "compressed-tensors";
  block["quantization_status"] = "compressed";
  return {};
}

}  // namespace

extern const Dialect kCompressedTensors;
const Dialect kCompressedTensors{.name = "compressed-tensors",
                                 .quant_method = "compressed-tensors",
                                 .codes = ".weight_packed",
                                 .sf = ".weight_scale",
                                 .global = ".weight_global_scale",
                                 .input = ".input_global_scale",
                                 .stores_reciprocals = true,
                                 .scalar_rank = 1,
                                 .read_config = read_config,
                                 .write_config = write_config};

}  // namespace megamoe
