#include "checkpoint/model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace megamoe {
namespace {

constexpr std::array<std::string_view, 5> kPrefixes{
    "model.", "model.language_model.", "language_model.model.", "language_model.", "",
};

ConfigFiles read_configs(const ModelFiles& files) {
  const auto read = [&](const std::string& name) {
    return Config::parse(read_text(files.directory().open(name), kMaxConfigBytes), name);
  };
  ConfigFiles configs{.config = read("config.json"), .hf_quant = std::nullopt};
  if (files.directory().has("hf_quant_config.json")) configs.hf_quant = read("hf_quant_config.json");
  return configs;
}

bool is_expert(const LayerName& name, const ModuleNames& modules) {
  return name.rest.starts_with(modules.experts) && name.rest.substr(modules.experts.size()).starts_with(".");
}

// The prefix under which experts are found.
std::string find_prefix(const Model& model, Findings& problems, Findings& notes) {
  const ModuleNames& modules = model.architecture.family->modules;
  std::map<std::string_view, const Tensor*> found;
  for (const Tensor& tensor : model.files.tensors())
    if (const auto name = split_layer_name(tensor.name); name && is_expert(*name, modules))
      found.try_emplace(name->prefix, &tensor);

  std::vector<std::string_view> usable;
  for (const std::string_view prefix : kPrefixes)
    if (found.contains(prefix)) usable.push_back(prefix);
  if (usable.empty()) {
    const std::string wanted = "<prefix>layers.N." + std::string(modules.experts) + ".E";
    std::string accepted;
    for (const std::string_view prefix : kPrefixes) accepted += " '" + std::string(prefix) + "'";
    const Tensor* stranger = found.empty() ? nullptr : found.begin()->second;
    problems.add(15, stranger ? std::string(stranger->name) : "", stranger ? model.file_of(*stranger) : "",
                 "no tensor named ", wanted, " with one of the prefixes", accepted);
    return std::string(kPrefixes[0]);
  }
  for (std::size_t i = 1; i < usable.size(); ++i) {
    const Tensor& tensor = *found[usable[i]];
    problems.add(15, std::string(tensor.name), model.file_of(tensor), "experts under the prefix '", usable[i],
                 "' and also under '", usable[0], "', accepted: one of them");
  }
  if (usable[0] != kPrefixes[0])
    notes.add(15, std::string(found[usable[0]]->name), model.file_of(*found[usable[0]]), "layers have the prefix '",
              usable[0], "'");
  return std::string(usable[0]);
}

void sort_tensors(Model& model) {
  const ModuleNames& modules = model.architecture.family->modules;
  for (const Tensor& tensor : model.files.tensors()) {
    const auto name = split_layer_name(tensor.name);
    if (!name) continue;
    const bool in_block =
        name->rest.starts_with(modules.block) && name->rest.substr(modules.block.size()).starts_with(".");
    if (!in_block) continue;
    const bool is_main = name->prefix == model.prefix && name->layer < model.architecture.layers;
    if (is_main)
      model.blocks[name->layer].push_back(&tensor);
    else if (is_expert(*name, modules))
      model.mtp.push_back(&tensor);
  }
}

// The dialect that the experts' tensor names tell. Where it is not that of the config, the names are believed (inspect
// goes on with them), and the contradiction is a problem.
const Dialect* decide_dialect(const Model& model, const Dialect* of_config, Findings& problems) {
  std::map<const Dialect*, const Tensor*> by_names;
  for (const auto& [layer, tensors] : model.blocks)
    for (const Tensor* tensor : tensors)
      if (const Dialect* dialect = dialect_of_tensor(tensor->name)) by_names.try_emplace(dialect, tensor);
  if (of_config == nullptr || by_names.empty()) return of_config;
  for (const auto& [dialect, tensor] : by_names)
    if (dialect != of_config)
      problems.add(10, std::string(tensor->name), model.file_of(*tensor), "a tensor of the dialect ", dialect->name,
                   ", but the config says ", of_config->name);
  return by_names.contains(of_config) ? of_config : by_names.begin()->first;
}

}  // namespace

std::optional<LayerName> split_layer_name(std::string_view name) noexcept {
  constexpr std::string_view kLayers = "layers.";
  for (std::size_t at = name.find(kLayers); at != std::string_view::npos; at = name.find(kLayers, at + 1)) {
    if (at != 0 && name[at - 1] != '.') continue;
    const std::string_view number = name.substr(at + kLayers.size());
    std::int64_t layer = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layer);
    const auto digits = static_cast<std::size_t>(end - number.data());
    const bool is_plain =
        error == std::errc{} && digits > 0 && number[0] >= '0' && number[0] <= '9' && (digits == 1 || number[0] != '0');
    if (is_plain && digits < number.size() && number[digits] == '.')
      return LayerName{name.substr(0, at), layer, number.substr(digits + 1)};
  }
  return std::nullopt;
}

std::shared_ptr<const Model> open_model(const std::string& dir, Findings& problems, Findings& notes) {
  ModelFiles files = ModelFiles::open(dir);
  ConfigFiles configs = read_configs(files);
  const auto model = std::make_shared<Model>(std::move(files), std::move(configs));
  for (const std::string& note : model->files.notes()) notes.add(0, "", "", note);

  model->architecture = read_architecture(model->configs.config, problems);
  const Dialect* of_config = dialect_of_config(model->configs, problems);
  if (of_config != nullptr) model->quant = of_config->read_config(model->configs, problems);
  if (model->architecture.family == nullptr) return model;

  model->prefix = find_prefix(*model, problems, notes);
  sort_tensors(*model);
  model->dialect = decide_dialect(*model, of_config, problems);
  return model;
}

}  // namespace megamoe
