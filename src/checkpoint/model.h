// An opened model directory: its files, what the configs say, and which tensors belong to which layer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/dialects/dialect.h"
#include "checkpoint/families/family.h"
#include "checkpoint/findings.h"
#include "checkpoint/model_files.h"

namespace megamoe {

using Tensor = ModelFiles::Tensor;

// "model.layers.12.mlp.gate.weight" = {"model.", 12, "mlp.gate.weight"}
struct LayerName {
  std::string_view prefix;
  std::int64_t layer;
  std::string_view rest;
};
std::optional<LayerName> split_layer_name(std::string_view name) noexcept;

struct Model {
  Model(ModelFiles model_files, ConfigFiles config_files)
      : files(std::move(model_files)), configs(std::move(config_files)) {}

  ModelFiles files;
  ConfigFiles configs;
  Architecture architecture;         // .family is nullptr where the config could not be understood
  const Dialect* dialect = nullptr;  // as the tensors' names say; nullptr where config or names tell none
  QuantConfig quant;
  std::string prefix;                                         // in front of "layers.N."
  std::map<std::int64_t, std::vector<const Tensor*>> blocks;  // tensors of each layer's MoE block; dense layers too
  std::vector<const Tensor*> mtp;                             // experts of multi-token-prediction layers

  const Tensor* find(const std::string& name) const noexcept { return files.find(name); }
  const std::string& file_of(const Tensor& tensor) const noexcept { return files.shard_name(tensor.shard); }
  std::string layer_module(std::int64_t layer, std::string_view module) const {
    return prefix + "layers." + std::to_string(layer) + "." + std::string(module);
  }
  std::string expert_module(std::int64_t layer, std::int64_t expert) const {
    return layer_module(layer, architecture.family->modules.experts) + "." + std::to_string(expert);
  }
  // Whether its layers can be looked at.
  bool is_readable() const noexcept { return architecture.has_sizes && dialect != nullptr; }
};

// Reads configs and headers, and decides family, dialect and prefix. Faults inside become findings (`notes` for those
// that change nothing); throws kBadFile where a file can not be opened or parsed at all.
std::shared_ptr<const Model> open_model(const std::string& dir, Findings& problems, Findings& notes);

}  // namespace megamoe
