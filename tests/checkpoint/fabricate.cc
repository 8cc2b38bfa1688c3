#include "checkpoint/fabricate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/safetensors_layout.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/quant.h"

namespace megamoe::test {
namespace {

struct FakeFamily {
  Json config;
  std::string block = "mlp";
  std::vector<std::string> projections = {"gate_proj", "up_proj", "down_proj"};
  bool has_choice_bias = false;
  std::string shared;  // module name below the block
  std::int64_t shared_inter = 0;
  bool is_shared_gated = false;
  bool is_first_dense = false;
};

Json v3_config(const std::string& type) {
  return {{"model_type", type},
          {"hidden_act", "silu"},
          {"hidden_size", kHidden},
          {"num_hidden_layers", 2},
          {"moe_intermediate_size", kInter},
          {"n_routed_experts", kExperts},
          {"n_shared_experts", 2},
          {"num_experts_per_tok", 3},
          {"first_k_dense_replace", 1},
          {"n_group", 4},
          {"topk_group", 2},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 2.5},
          {"aux_loss_alpha", 0.001},
          {"num_nextn_predict_layers", 1}};
}

FakeFamily family_of(const std::string& type) {
  FakeFamily family;
  if (type == "mixtral") {
    family.config = {{"model_type", type},          {"hidden_size", kHidden},
                     {"intermediate_size", kInter}, {"num_local_experts", kExperts},
                     {"num_experts_per_tok", 2},    {"num_hidden_layers", 2}};
    family.block = "block_sparse_moe";
    family.projections = {"w1", "w3", "w2"};
  } else if (type.starts_with("qwen")) {
    family.config = {{"model_type", type},
                     {"hidden_size", kHidden},
                     {"moe_intermediate_size", kInter},
                     {"num_experts", kExperts},
                     {"num_experts_per_tok", 3},
                     {"num_hidden_layers", 2},
                     {"decoder_sparse_step", 1},
                     {"mlp_only_layers", Json::array({0})},
                     {"norm_topk_prob", true},
                     {"hidden_act", "silu"},
                     {"router_aux_loss_coef", 0.1}};
    family.is_first_dense = true;
    if (type != "qwen3_moe") {
      family.shared = "shared_expert";
      family.shared_inter = 32;
      family.config["shared_expert_intermediate_size"] = family.shared_inter;
      family.is_shared_gated = true;
    }
  } else if (type == "deepseek_v2") {
    family.config = v3_config(type);
    family.config["topk_method"] = "group_limited_greedy";
    family.config["norm_topk_prob"] = false;
    family.config["routed_scaling_factor"] = 16.0;
  } else {
    family.config = v3_config(type);
    family.has_choice_bias = true;
  }
  if (family.config.contains("n_shared_experts")) {
    family.shared = "shared_experts";
    family.shared_inter = 2 * kInter;
    family.is_first_dense = true;
  }
  return family;
}

// The scalar's shape and meaning, and the suffixes, by dialect.
struct FakeDialect {
  std::string codes, global, input;
  bool is_reciprocal;
  Shape scalar;
};

FakeDialect dialect_of(const std::string& name) {
  if (name == "modelopt") return {".weight", ".weight_scale_2", ".input_scale", false, Shape{}};
  return {".weight_packed", ".weight_global_scale", ".input_global_scale", true, Shape{1}};
}

void quantise_module(FakeModel& model, const std::string& module, const FakeDialect& dialect, bool input_scales) {
  const FakeTensor plain = model.at(module + ".weight");
  const std::int64_t rows = plain.shape[0], cols = plain.shape[1];
  Nvfp4Tensor nvfp4 = quantize_nvfp4({plain.bytes.data(), plain.dtype, plain.shape}, {});
  // A multiplier that is some float's reciprocal, so that both dialects can say it.
  const float reciprocal = 1.0f / nvfp4.global_scales[0];
  const float multiplier = 1.0f / reciprocal;
  const auto text = [](const std::vector<std::uint8_t>& bytes) { return std::string(bytes.begin(), bytes.end()); };
  const std::string shard = plain.shard;
  model.erase(plain.name);
  model.add({module + dialect.codes, DType::kU8, {rows, cols / 2}, text(nvfp4.codes), shard});
  model.add({module + ".weight_scale", DType::kF8E4M3, {rows, cols / 16}, text(nvfp4.sf), shard});
  model.add({module + dialect.global, DType::kF32, dialect.scalar,
             float_bytes(dialect.is_reciprocal ? reciprocal : multiplier), shard});
  if (input_scales)
    model.add({module + dialect.input, DType::kF32, dialect.scalar,
               float_bytes(dialect.is_reciprocal ? 512.0f : 1.0f / 512), shard});
}

}  // namespace

std::string float_bytes(float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

float float_of(const std::string& bytes) {
  float value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::string bf16_bytes(std::int64_t elements, std::uint32_t seed) {
  std::string bytes;
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::int64_t i = 0; i < elements; ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = (static_cast<float>(state >> 8) / 16777216.0f - 0.5f) * 0.1f;
    const std::uint16_t bits = bf16_from_float(value);
    bytes.append({static_cast<char>(bits & 0xff), static_cast<char>(bits >> 8)});
  }
  return bytes;
}

FakeTensor& FakeModel::at(const std::string& name) {
  for (FakeTensor& tensor : tensors)
    if (tensor.name == name) return tensor;
  throw std::out_of_range("the fabricated model has no " + name);
}

void FakeModel::erase(const std::string& name) {
  at(name);
  std::erase_if(tensors, [&](const FakeTensor& tensor) { return tensor.name == name; });
}

void FakeModel::rename_prefix(const std::string& from, const std::string& to) {
  for (FakeTensor& tensor : tensors)
    if (tensor.name.starts_with(from)) tensor.name = to + tensor.name.substr(from.size());
  if (experts.starts_with(from)) experts = to + experts.substr(from.size());
}

void FakeModel::write(const std::string& dir) const {
  std::map<std::string, std::vector<const FakeTensor*>> shards;
  for (const FakeTensor& tensor : tensors) shards[tensor.shard].push_back(&tensor);
  Json weight_map;
  for (const auto& [shard, list] : shards) {
    std::vector<TensorSpec> specs;
    for (const FakeTensor* tensor : list) {
      specs.push_back({tensor->name, tensor->dtype, tensor->shape});
      weight_map[tensor->name] = shard;
    }
    const SafetensorsLayout layout = layout_safetensors(specs, {{"format", "pt"}}, shard);
    std::string bytes = layout.prefix;
    for (const TensorInfo& info : layout.tensors)
      for (const FakeTensor* tensor : list)
        if (tensor->name == info.name) bytes += tensor->bytes;
    write_bytes(dir + "/" + shard, bytes);
  }
  if (shards.size() > 1) write_bytes(dir + "/model.safetensors.index.json", Json{{"weight_map", weight_map}}.dump());
  write_bytes(dir + "/config.json", config.dump(2));
  if (hf_quant) write_bytes(dir + "/hf_quant_config.json", hf_quant->dump(2));
}

std::vector<std::string> fake_families() {
  return {"qwen3_moe", "qwen2_moe", "qwen3_next", "mixtral", "deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe"};
}

FakeModel fake_model(const std::string& model_type) {
  const FakeFamily family = family_of(model_type);
  FakeModel model;
  model.config = family.config;
  model.projections = family.projections;
  std::uint32_t seed = 1;
  const auto add = [&](const std::string& name, const Shape& shape) {
    model.add({name, DType::kBF16, shape, bf16_bytes(shape.elements(), seed++)});
  };
  const auto add_expert = [&](const std::string& module, std::int64_t inter) {
    add(module + "." + family.projections[0] + ".weight", {inter, kHidden});
    add(module + "." + family.projections[1] + ".weight", {inter, kHidden});
    add(module + "." + family.projections[2] + ".weight", {kHidden, inter});
  };
  add("model.embed_tokens.weight", {32, kHidden});
  for (int index = 0; index < 2; ++index) {
    const std::string layer = "model.layers." + std::to_string(index);
    add(layer + ".self_attn.q_proj.weight", {kHidden, kHidden});
    add(layer + ".input_layernorm.weight", {kHidden});
    if (index == 0 && family.is_first_dense) {
      add_expert(layer + ".mlp", 80);
      continue;
    }
    const std::string block = layer + "." + family.block;
    if (model.experts.empty()) model.experts = block + ".experts";
    for (int expert = 0; expert < kExperts; ++expert) add_expert(block + ".experts." + std::to_string(expert), kInter);
    add(block + ".gate.weight", {kExperts, kHidden});
    if (family.has_choice_bias)
      model.add({block + ".gate.e_score_correction_bias", DType::kF32, {kExperts}, std::string(kExperts * 4, '\0')});
    if (!family.shared.empty()) add_expert(block + "." + family.shared, family.shared_inter);
    if (family.is_shared_gated) add(block + ".shared_expert_gate.weight", {1, kHidden});
  }
  add("model.norm.weight", {kHidden});
  return model;
}

FakeModel fake_quantised(const std::string& model_type, const std::string& dialect, bool input_scales) {
  FakeModel model = fake_model(model_type);
  std::vector<std::string> quantised;
  std::vector<std::string> excluded = {"lm_head"};
  for (const FakeTensor& tensor : model.tensors) {
    if (!tensor.name.ends_with(".weight")) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - 7);
    if (module.find(".experts.") != std::string::npos)
      quantised.push_back(module);
    else
      excluded.push_back(module);
  }
  for (const std::string& module : quantised) quantise_module(model, module, dialect_of(dialect), input_scales);

  if (dialect == "modelopt") {
    const std::string algo = input_scales ? "NVFP4" : "W4A16_NVFP4";
    model.config["quantization_config"] = {{"quant_method", "modelopt"}, {"quant_algo", algo}, {"ignore", excluded}};
    model.hf_quant = {
        {"producer", {{"name", "modelopt"}, {"version", "0.40"}}},
        {"quantization",
         {{"quant_algo", algo}, {"kv_cache_quant_algo", nullptr}, {"group_size", 16}, {"exclude_modules", excluded}}}};
  } else {
    Json group = {
        {"targets", Json::array({"Linear"})},
        {"weights",
         {{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}, {"symmetric", true}}},
        {"input_activations", nullptr}};
    if (input_scales)
      group["input_activations"] = {{"num_bits", 4}, {"type", "float"}, {"dynamic", "local"}, {"group_size", 16}};
    model.config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                           {"format", "nvfp4-pack-quantized"},
                                           {"quantization_status", "compressed"},
                                           {"config_groups", {{"group_0", group}}},
                                           {"ignore", excluded}};
  }
  return model;
}

}  // namespace megamoe::test
