#include <array>
#include <nlohmann/json.hpp>

#include "checkpoint/dialects/dialect.h"

namespace megamoe {

// One file of this folder each.
extern const Dialect kPlain;
extern const Dialect kModelopt;
extern const Dialect kCompressedTensors;

std::span<const Dialect* const> dialects() {
  static constexpr std::array<const Dialect*, 3> kDialects{&kPlain, &kModelopt, &kCompressedTensors};
  return kDialects;
}

const Dialect& plain_dialect() { return kPlain; }

const Dialect* find_dialect(std::string_view name) noexcept {
  for (const Dialect* dialect : dialects())
    if (dialect->name == name) return dialect;
  return nullptr;
}

const Dialect& require_quantised_dialect(std::string_view name) {
  const Dialect* found = find_dialect(name);
  if (found != nullptr && !found->quant_method.empty()) return *found;
  std::string accepted;
  for (const Dialect* dialect : dialects())
    if (!dialect->quant_method.empty()) accepted += (accepted.empty() ? "" : ", ") + std::string(dialect->name);
  throw Error(Code::kInvalidArgument, "dialect: asked ", name, ", accepted: ", accepted);
}

const Dialect* dialect_of_config(const ConfigFiles& files, Findings& findings) {
  ConfigReader top(files.config, findings);
  std::optional<ConfigReader> block = quantization_block(top);
  if (!block) return files.hf_quant ? &kModelopt : &kPlain;

  const std::string method = block->text("quant_method");
  std::string accepted;
  for (const Dialect* dialect : dialects()) {
    if (dialect->quant_method.empty()) continue;
    accepted += (accepted.empty() ? "" : ", ") + std::string(dialect->quant_method);
    if (dialect->quant_method != method) continue;
    if (files.hf_quant && dialect != &kModelopt)
      block->fail(10, "quant_method: found ", method, ", but hf_quant_config.json belongs to modelopt");
    return dialect;
  }
  if (block->has("moe_quant_algo"))
    block->fail_unsupported(10, "quant_method: found ", method, " with moe_quant_algo, accepted: ", accepted);
  else if (block->has("quant_method"))
    block->fail_unsupported(0, "quant_method: found ", method, ", accepted: ", accepted);
  return nullptr;
}

const Dialect* dialect_of_tensor(std::string_view name) noexcept {
  for (const Dialect* dialect : dialects())
    if (!dialect->global.empty() && name.ends_with(dialect->global)) return dialect;
  for (const Dialect* dialect : dialects())
    if (!dialect->codes.empty() && dialect->codes != kPlainWeight && name.ends_with(dialect->codes)) return dialect;
  return nullptr;
}

std::optional<ConfigReader> quantization_block(ConfigReader& config) {
  if (std::optional<ConfigReader> block = config.object("quantization_config")) return block;
  if (config.is_object("text_config")) return config.object("text_config")->object("quantization_config");
  return std::nullopt;
}

void remove_quantization(nlohmann::ordered_json& config) {
  config.erase("quantization_config");
  if (config.contains("text_config") && config["text_config"].is_object())
    config["text_config"].erase("quantization_config");
}

}  // namespace megamoe
