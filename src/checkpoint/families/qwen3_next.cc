// Qwen3-Next: the MoE block of Qwen2-MoE in a model with linear attention; weights are renormalised by default.
// Source: transformers, models/qwen3_next.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"qwen3_next"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"num_experts", "num_local_experts"});
  a.shared_inter = config.size("shared_expert_intermediate_size");
  a.shared_gated = true;
  a.routing = {.score = ScoreFunction::kSoftmax, .renormalize = config.flag_or("norm_topk_prob", true)};
  read_sparse_step_layers(config, a);
}

constexpr ModuleNames modules() {
  ModuleNames names = kMlpExperts;
  names.shared = "mlp.shared_expert";
  names.shared_gate = "mlp.shared_expert_gate";
  return names;
}

}  // namespace

extern const Family kQwen3Next;
const Family kQwen3Next{.name = "qwen3_next", .model_types = kModelTypes, .modules = modules(), .read = read};

}  // namespace megamoe
