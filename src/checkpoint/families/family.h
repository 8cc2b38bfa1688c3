// A model family: how its config names the sizes of its MoE layers, and how its files name their tensors. One file of
// this folder describes one family; families.cc lists them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "megamoe/moe.h"
#include "megamoe/routing.h"

namespace megamoe {

// Names of modules below "<prefix>layers.<N>."; a weight is "<module>.weight".
struct ModuleNames {
  std::string_view block;        // all tensors of the MoE block begin with it: "mlp"
  std::string_view experts;      // an expert is "<experts>.<e>.<gate>": "mlp.experts"
  std::string_view gate;         // "gate_proj"
  std::string_view up;           // "up_proj"
  std::string_view down;         // "down_proj"
  std::string_view router;       // "mlp.gate"
  std::string_view choice_bias;  // a tensor, not a module; empty where the family has none
  std::string_view shared;       // "mlp.shared_experts"; empty where the family has none
  std::string_view shared_gate;  // "mlp.shared_expert_gate"
};

struct Family;

// What a config says about the MoE layers of a model.
struct Architecture {
  const Family* family = nullptr;
  std::int64_t layers = 0;               // of all kinds
  std::vector<std::int64_t> moe_layers;  // ascending
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t shared_inter = 0;  // of all shared experts together; 0 = none
  bool shared_gated = false;
  RoutingRule routing;
  Activation activation;
  bool has_sizes = false;  // false where the config is such that the sizes above mean nothing
};

struct Family {
  std::string_view name;
  std::span<const std::string_view> model_types;  // values of config.json's model_type
  ModuleNames modules;
  // Fills `architecture`; faults become findings of the reader. Whatever it does not ask for and that sounds like
  // experts or routing is refused afterwards.
  void (*read)(ConfigReader& config, Architecture& architecture);
};

// ---- families.cc ----------------------------------------------------------------------------------------------------

std::span<const Family* const> families();

// Finds the family by model_type (of text_config where there is one) and reads the config whole. Sizes that do not fit
// together are findings. Returns an architecture without a family where the model_type is unknown.
Architecture read_architecture(const Config& config, Findings& findings);

// ---- shared by several families (common.cc) -------------------------------------------------------------------------

inline constexpr ModuleNames kMlpExperts{.block = "mlp",
                                         .experts = "mlp.experts",
                                         .gate = "gate_proj",
                                         .up = "up_proj",
                                         .down = "down_proj",
                                         .router = "mlp.gate",
                                         .choice_bias = {},
                                         .shared = {},
                                         .shared_gate = {}};

constexpr ModuleNames gated_qwen_modules() {
  ModuleNames names = kMlpExperts;
  names.shared = "mlp.shared_expert";
  names.shared_gate = "mlp.shared_expert_gate";
  return names;
}

constexpr ModuleNames v3_modules() {
  ModuleNames names = kMlpExperts;
  names.choice_bias = "mlp.gate.e_score_correction_bias";
  names.shared = "mlp.shared_experts";
  return names;
}

// hidden_size, num_hidden_layers, num_experts_per_tok; hidden_act must be "silu".
void read_common_sizes(ConfigReader& config, Architecture& architecture);
// Qwen: every decoder_sparse_step-th layer is MoE, except those of mlp_only_layers.
void read_sparse_step_layers(ConfigReader& config, Architecture& architecture);
// DeepSeek: dense layers first (first_k_dense_replace), then every moe_layer_freq-th.
void read_dense_first_layers(ConfigReader& config, Architecture& architecture);
// DeepSeek: n_shared_experts experts of the routed width, stored as one.
void read_fused_shared_experts(ConfigReader& config, Architecture& architecture);
// Qwen with a gated shared expert: sizes, softmax routing and layers; the default of norm_topk_prob is the class's.
void read_gated_qwen(ConfigReader& config, Architecture& architecture, bool default_renormalize);
// DeepSeek-V3: sizes and layers; sigmoid, correction bias, groups scored by their best two, weights normalised and
// scaled.
void read_v3(ConfigReader& config, Architecture& architecture);

}  // namespace megamoe
