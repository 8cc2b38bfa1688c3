// Qwen2-MoE (Qwen1.5-MoE): as Qwen3-MoE with one shared expert behind a sigmoid gate. Source: transformers,
// models/qwen2_moe.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"qwen2_moe"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"num_experts", "num_local_experts"});
  a.shared_inter = config.size("shared_expert_intermediate_size");
  a.shared_gated = true;
  a.routing = {.score = ScoreFunction::kSoftmax, .renormalize = config.flag_or("norm_topk_prob", false)};
  read_sparse_step_layers(config, a);
}

constexpr ModuleNames modules() {
  ModuleNames names = kMlpExperts;
  names.shared = "mlp.shared_expert";
  names.shared_gate = "mlp.shared_expert_gate";
  return names;
}

}  // namespace

extern const Family kQwen2Moe;
const Family kQwen2Moe{.name = "qwen2_moe", .model_types = kModelTypes, .modules = modules(), .read = read};

}  // namespace megamoe
